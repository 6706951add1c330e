// The API as a page, drawn from the service's own OpenAPI description.
import { call } from "./api.js";
import { find, make, say } from "./dom.js";

const nameOf = (schema) => schema?.$ref?.split("/").at(-1);

function typeOf(schema) {
  if (!schema) return "";
  if (nameOf(schema)) return nameOf(schema);
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  return schema.contentMediaType ? "file" : schema.type ?? "any";
}

function rows(list) {
  return make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Fields" }, make("table", {},
    make("thead", {}, make("tr", {}, ...["name", "type", "default", "meaning"].map((text) => make("th", { scope: "col", class: "plain", text })))),
    make("tbody", {}, ...list.map(({ name, schema, description, required }) => make("tr", {},
      make("td", {}, make("code", { text: name })), make("td", { text: typeOf(schema) }),
      make("td", { text: schema?.default !== undefined ? JSON.stringify(schema.default) : required ? "required" : "" }),
      make("td", { class: "wide", text: description ?? schema?.description ?? "" }))))));
}

const fields = (schema) => Object.entries(schema.properties ?? {}).map(([name, each]) =>
  ({ name, schema: each, required: schema.required?.includes(name) }));

function operation(path, method, told, schemas) {
  const box = make("section", { class: "study" }, make("h2", {}, make("code", { text: `${method.toUpperCase()} ${path}` })),
    make("p", { text: told.description ?? told.summary ?? "" }));
  if (told.parameters?.length) box.append(rows(told.parameters));
  for (const { schema } of Object.values(told.requestBody?.content ?? {})) {
    const body = schemas[nameOf(schema)] ?? schema;
    box.append(make("p", { class: "hint", text: "Body" }), rows(fields(body)));
  }
  const answers = Object.entries(told.responses).map(([status, { content, description }]) => {
    const type = typeOf(Object.values(content ?? {})[0]?.schema);
    return `${status}: ${type || description}`;
  });
  box.append(make("p", { class: "hint", text: `Responses: ${answers.join(", ")}` }));
  return box;
}

async function start() {
  document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const told = await call("/openapi.json");
  const schemas = told.components?.schemas ?? {};
  for (const [path, methods] of Object.entries(told.paths)) {
    for (const [method, each] of Object.entries(methods)) find("operations").append(operation(path, method, each, schemas));
  }
  for (const [name, schema] of Object.entries(schemas)) {
    find("types").append(make("section", { class: "study" }, make("h2", { text: name }), make("p", { text: schema.description ?? "" }), rows(fields(schema))));
  }
  document.body.dataset.ready = "true";
}

start().catch((error) => say(error.message, true));
