// Shows /openapi.json. Every text goes in as text, none as HTML: names of features are whatever a trainer wrote.
"use strict";

const MAX_DEPTH = 6;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function resolve(spec, schema) {
  if (!schema || !schema.$ref) return schema || {};
  return schema.$ref.slice(2).split("/").reduce((part, key) => part[key], spec);
}

function typeOf(spec, given) {
  const schema = resolve(spec, given);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const either = schema.anyOf || schema.oneOf;
  if (either) return [...new Set(either.map((part) => typeOf(spec, part)))].join(" or ");
  if (schema.type === "array") return `list of ${schema.items ? typeOf(spec, schema.items) : "anything"}`;
  return [].concat(schema.type || "anything").join(" | ");
}

// An example of a value: the schema's own, or one put together from its parts.
function exampleOf(spec, given, depth = 0) {
  const schema = resolve(spec, given);
  if (schema.examples && schema.examples.length) return schema.examples[0];
  if (schema.enum) return schema.enum[0];
  if (schema.const !== undefined) return schema.const;
  const either = schema.anyOf || schema.oneOf;
  if (either) return exampleOf(spec, either[0], depth);
  const type = [].concat(schema.type || "object")[0];
  if (depth > MAX_DEPTH) return null;
  if (type === "array") return schema.items ? [exampleOf(spec, schema.items, depth + 1)] : [];
  if (type === "object") {
    const names = schema.required || Object.keys(schema.properties || {});
    return Object.fromEntries(
      names.map((name) => [name, exampleOf(spec, (schema.properties || {})[name], depth + 1)]),
    );
  }
  return { string: "text", integer: 1, number: 0.5, boolean: true }[type] ?? null;
}

function table(headings, rows) {
  return element(
    "div",
    { class: "wide" },
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)))),
      element(
        "tbody",
        {},
        ...rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell)))),
      ),
    ),
  );
}

function code(text) {
  return element("code", {}, text);
}

function properties(spec, given) {
  const schema = resolve(spec, given);
  const rows = Object.entries(schema.properties || {}).map(([name, property]) => [
    code((schema.required || []).includes(name) ? `${name} (required)` : name),
    typeOf(spec, property),
    resolve(spec, property).description || "",
  ]);
  return rows.length ? table(["name", "type", "meaning"], rows) : null;
}

// The one object of several shapes that has most to tell: a record, rather than the list or wrapper around it.
function fullest(spec, given) {
  const schema = resolve(spec, given);
  return schema.anyOf ? resolve(spec, schema.anyOf[0]) : schema;
}

function body(spec, content) {
  const parts = [];
  for (const [kind, media] of Object.entries(content || {})) {
    if (kind !== "application/json" || !media.schema) continue;
    const schema = fullest(spec, media.schema);
    parts.push(properties(spec, schema));
    parts.push(element("pre", {}, JSON.stringify(exampleOf(spec, media.schema), null, 2)));
  }
  const kinds = Object.keys(content || {});
  if (kinds.length) parts.unshift(element("p", { class: "note" }, kinds.join(", ")));
  return parts;
}

function operation(spec, method, path, item) {
  const inner = element("div", { class: "body" });
  inner.append(element("p", {}, item.description || item.summary || ""));
  if ((item.parameters || []).length) {
    const rows = item.parameters.map((parameter) => [
      code(`${parameter.name} (${parameter.in})`),
      typeOf(spec, parameter.schema),
      parameter.description || "",
    ]);
    inner.append(element("h3", {}, "Parameters"), table(["name", "type", "meaning"], rows));
  }
  if (item.requestBody) {
    inner.append(element("h3", {}, "Body"), ...body(spec, item.requestBody.content).filter(Boolean));
  }
  for (const [status, response] of Object.entries(item.responses || {})) {
    if (!status.startsWith("2")) continue;
    inner.append(element("h3", {}, `Answer ${status}`), ...body(spec, response.content).filter(Boolean));
  }
  const errors = Object.entries(item.responses || {})
    .filter(([status]) => !status.startsWith("2"))
    .map(([status, response]) => [code(status), response.description || ""]);
  if (errors.length) inner.append(element("h3", {}, "Errors"), table(["status", "meaning"], errors));
  const title = element("span", { class: `method ${method}` }, method.toUpperCase());
  const made = element("details", {}, element("summary", {}, title, " ", code(path)));
  made.addEventListener("toggle", () => made.childElementCount < 2 && made.append(inner), { once: true });
  return made;
}

function show(spec) {
  document.getElementById("title").textContent = `${spec.info.title} ${spec.info.version}`;
  document.getElementById("about").textContent = spec.info.description || "";
  const groups = new Map();
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, item] of Object.entries(methods)) {
      const group = (item.tags || ["other"])[0];
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(operation(spec, method, path, item));
    }
  }
  const contents = element("ul");
  const main = document.getElementById("operations");
  main.replaceChildren();
  [...groups].forEach(([name, operations], number) => {
    const id = `group-${number}`;
    contents.append(element("li", {}, element("a", { href: `#${id}` }, name)));
    main.append(element("section", {}, element("h2", { id }, name), ...operations));
  });
  document.getElementById("contents").append(contents);
  if (location.hash === "#all") main.querySelectorAll("details").forEach((one) => (one.open = true));
}

fetch("openapi.json")
  .then((reply) => (reply.ok ? reply.json() : Promise.reject(new Error(`status ${reply.status}`))))
  .then(show)
  .catch((error) => {
    document.getElementById("operations").textContent = `openapi.json cannot be read: ${error.message}`;
  });
