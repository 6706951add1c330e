"""Pseudonyms that only the holder of the key can trace back: keyed hashes in place of patients and files."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_config_dir

from koa_lightning.config.places import user_path
from koa_lightning.data.gray import one_line
from koa_lightning.errors import InputError

VERSION = 2  # raise it when an id gets another name, so that old and new names do not mix
VARIABLE = "KOA_KEY"
SHORTEST = 16  # characters: with a guessed key, trying all ids finds a patient
_PATIENT, _SOURCE, _KEY = b"koa-patient", b"koa-source", b"koa-key"  # so that two kinds of hash cannot be compared


@dataclass(frozen=True, repr=False)
class Key:
    """The secret and its origin (for messages)."""

    secret: bytes
    origin: str

    def patient(self, name: str) -> str:
        """Return 16 hex digits in place of a patient's id (keyed BLAKE2b), the same for each spelling of it."""
        return self._hash(_spelled(name).encode(), 8, _PATIENT)

    def source(self, data: bytes) -> str:
        """Return 32 hex digits in place of a file, from its content alone."""
        return self._hash(data, 16, _SOURCE)

    @property
    def mark(self) -> str:
        """8 hex digits that distinguish keys without revealing them, and the version of the names."""
        return f"{self._hash(b'', 4, _KEY)}-{VERSION}"

    def _hash(self, data: bytes, size: int, kind: bytes) -> str:
        return hashlib.blake2b(data, digest_size=size, key=self.secret, person=kind).hexdigest()


def _spelled(name: str) -> str:
    """Normalise an id: no case, single blanks, one form of each letter; leading zeros may distinguish patients."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())  # folding decomposes some letters


def find_key(key_file: str | None, output: Path) -> Key:
    """Return the key of `key_file`, or else of the environment variable `KOA_KEY`, or else the user's own.

    The user's own key is created once, at random, in the user's configuration folder, with a warning.

    Raises:
        InputError: The file is missing or lies in `output`, or the key is too short or cannot be stored.
    """
    if key_file:
        file = user_path(key_file)
        if file.resolve().is_relative_to(output.resolve()):
            raise InputError(f"key_file={key_file}: lies in the output folder, which may be shared; move it elsewhere")
        return _key(_read(file), f"key_file={key_file}")
    if os.environ.get(VARIABLE):
        return _key(os.environb[VARIABLE.encode()], f"${VARIABLE}")
    return _own()


def default_file() -> Path:
    """Return the file of the user's own key."""
    return Path(user_config_dir("koa_lightning")) / "prepare.key"


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise InputError(f"key_file={file}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{file}: the key cannot be read ({error.strerror or one_line(error)})") from error


def _key(text: bytes, origin: str) -> Key:
    text = text.strip()
    if len(text) < SHORTEST:
        raise InputError(f"{origin}: a key of {len(text)} characters can be guessed; give at least {SHORTEST}")
    return Key(hashlib.blake2b(text).digest(), origin)  # BLAKE2b accepts keys of at most 64 bytes


def _own() -> Key:
    file = default_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Linked into place when complete: two runs that start together use the same key.
        part = file.with_name(f"{file.name}.{os.getpid()}.part")
        if not file.exists():
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
                stream.write(secrets.token_hex(32) + "\n")
            try:
                os.link(part, file)
            except FileExistsError:
                pass
            else:
                _say_new(file)
            finally:
                part.unlink()
    except OSError as error:
        why = error.strerror or one_line(error)
        raise InputError(f"{file}: the key cannot be stored ({why}); give key_file=FILE or set {VARIABLE}") from error
    return _key(_read(file), str(file))


def _say_new(file: Path) -> None:
    print(
        f"WARNING: no key was given, so a random one was created: {file}\n"
        "WARNING: keep it, and keep it secret: anyone with it can find a patient by trying ids, and without it the "
        "names of a later run differ from these",
        file=sys.stderr,
        flush=True,
    )
