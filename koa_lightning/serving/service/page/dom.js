// Elements without a framework: text is always text, never markup.
export const find = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

export function say(words, bad = false) {
  const status = find("status");
  status.textContent = words;
  status.classList.toggle("bad", bad);
}
