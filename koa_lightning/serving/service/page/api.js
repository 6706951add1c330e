// The only connection to the service: the same host, with the token if one is needed.
let token = "";

export class Refused extends Error {
  constructor(code, message, knees) {
    super(message);
    this.code = code;
    this.knees = knees ?? [];
  }
}

export async function call(path, options = {}) {
  const headers = { ...(options.headers ?? {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new Refused("unreachable", "the service does not answer; is it still running?");
  }
  const body = await answer.json().catch(() => null);
  if (answer.status === 401) {
    await askForToken();
    return call(path, options);
  }
  if (!answer.ok || body === null) {
    throw new Refused(body?.error?.code ?? "internal", body?.error?.message ?? `status ${answer.status}`, body?.knees);
  }
  return body;
}

export function upload(path, files) {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  return call(path, { method: "POST", body: form });
}

export const send = (path, value) =>
  call(path, { method: "POST", body: JSON.stringify(value), headers: { "Content-Type": "application/json" } });

let asking = null;

function askForToken() {
  asking ??= new Promise((done) => {
    const dialog = document.getElementById("token-dialog");
    dialog.addEventListener("close", () => {
      token = document.getElementById("token").value.trim();
      document.getElementById("token").value = "";
      asking = null;
      done();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}
