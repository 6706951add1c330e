// All radiographs that were dropped, and their way to the service and back.
import { Refused, call, upload } from "./api.js";
import { say } from "./dom.js";

const KINDS = /\.(png|jpe?g|tiff?|webp|bmp|dcm|dicom|\d+)$/i;
const AT_ONCE = 6;

export const knees = [];
export const state = { model: null, current: null, pair: true, study: null };
const listeners = [];
let sending = Promise.resolve();
let generation = 0;

export const onChange = (listener) => listeners.push(listener);
export const changed = () => listeners.forEach((listener) => listener());
export const isImage = (name) => !name.startsWith(".") && (KINDS.test(name) || !name.includes("."));

export function add(files) {
  const fresh = [...files].map((file) => ({
    file, name: file.name, answer: null, error: null, reading: null, heats: {},
    view: { window: 255, level: 128, strength: 0.7, method: null, zoom: 1, x: 0, y: 0 },
  }));
  if (!fresh.length) {
    say("none of these files is an image", true);
    return;
  }
  knees.push(...fresh);
  state.current ??= fresh[0];
  changed();
  const mine = generation;
  sending = sending.then(() => sendAll(fresh, mine));
}

export function clear() {
  generation += 1;
  knees.length = 0;
  state.current = null;
  say("");
  changed();
}

async function sendAll(fresh, mine) {
  let done = 0;
  for (const group of groups(fresh)) {
    if (mine !== generation) return;
    say(`${done} of ${fresh.length} graded …`);
    await sendGroup(group);
    done += group.length;
    if (mine === generation) changed();
  }
  if (mine !== generation) return;
  const bad = fresh.filter((knee) => knee.error).length;
  say(`${fresh.length - bad} of ${fresh.length} ${state.study ? "ready to be read" : "graded"}` +
    (bad ? `; ${bad} without a grade, see the table` : ""));
}

function* groups(list) {
  let group = [], size = 0;
  for (const knee of list) {
    const full = group.length >= Math.min(AT_ONCE, state.model.max_files);
    if (group.length && (full || size + knee.file.size > state.model.max_bytes / 2)) {
      yield group;
      [group, size] = [[], 0];
    }
    group.push(knee);
    size += knee.file.size;
  }
  if (group.length) yield group;
}

async function sendGroup(group, tries = 3) {
  const path = state.study ? `/v1/study/${state.study}/knees` : "/v1/grade?picture=true";
  let found;
  try {
    found = (await upload(path, group.map((knee) => knee.file))).knees;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.code === "busy" && tries) {
      await new Promise((done) => setTimeout(done, 2000));
      return sendGroup(group, tries - 1);
    }
    found = error.knees.length === group.length ? error.knees : group.map(() => ({ error: { message: error.message } }));
  }
  group.forEach((knee, at) => {
    knee.error = found[at].error?.message ?? null;
    knee.answer = knee.error ? null : found[at];
    if (knee.answer?.knee) {  // in a study: it was read before
      knee.reading = found[at].reading;
      knee.answer = { ...found[at].knee, picture: found[at].picture };
    }
  });
}

// Whether the model's result may be shown: in reader mode only once the reader has graded.
export const isOpen = (knee) => Boolean(knee.answer) && (!state.study || knee.reading !== null);

export async function heat(knee, method) {
  if (!knee.heats[method]) {
    const asked = new URLSearchParams({ heatmap: "true", method });
    knee.heats[method] = (await upload(`/v1/grade?${asked}`, [knee.file])).knees[0].heatmap;
  }
  return knee.heats[method];
}

// Both knees of a knee's patient; the right one first, as it is on the left of a film.
export function together(knee) {
  const mine = whose(knee);
  if (!mine) return [knee];
  const other = knees.find((each) => {
    const its = whose(each);
    return its && its.patient === mine.patient && its.side !== mine.side;
  });
  if (!other) return [knee];
  return mine.side === "R" ? [knee, other] : [other, knee];
}

// By header or name as the model reads it; else by names that differ only in a last L or R. Grades do not depend on it.
function whose(knee) {
  const { patient, side } = knee.answer ?? {};
  if (patient && side) return { patient, side };
  const found = /^(.*?)[ _-]?(L|R|left|right)\.\w+$/i.exec(knee.name);
  return found && found[1] ? { patient: `name ${found[1]}`, side: found[2][0].toUpperCase() } : null;
}

export async function loadModel() {
  state.model = await call("/v1/model");
  return state.model;
}
