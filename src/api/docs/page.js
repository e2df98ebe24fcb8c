"use strict";
// Shows the document beside this page. All text is set as text: nothing of the document, or of an answer, becomes markup.

const $ = (id) => document.getElementById(id);

/** An element with properties and children. */
function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== ""));
  return made;
}

let api;

/** What a reference leads to. */
function resolved(value) {
  const seen = new Set();
  while (value && value.$ref && !seen.has(value.$ref)) {
    seen.add(value.$ref);
    value = value.$ref.slice(2).split("/").reduce((at, name) => at && at[name.replace(/~1/g, "/").replace(/~0/g, "~")], api);
  }
  return value || {};
}

const nameOf = (value) => (value.$ref ? value.$ref.split("/").pop() : undefined);

/** Text with `code`, **strong** and paragraphs. */
function prose(text, container = el("div")) {
  for (const paragraph of text.split(/\n\n+/)) {
    const p = el("p");
    for (const part of paragraph.split(/(`[^`]+`|\*\*[^*]+\*\*)/)) {
      if (part.startsWith("`")) p.append(el("code", {}, part.slice(1, -1)));
      else if (part.startsWith("**")) p.append(el("strong", {}, part.slice(2, -2)));
      else p.append(part);
    }
    container.append(p);
  }
  return container;
}

/** A schema in a few words; names are links. */
function brief(schema) {
  const span = el("span");
  const name = nameOf(schema);
  if (name) return el("a", { href: `#schema-${name}` }, name);
  if (schema.enum) span.append(schema.enum.map((one) => JSON.stringify(one)).join(" | "));
  else if ("const" in schema) span.append(JSON.stringify(schema.const));
  else if (schema.anyOf) schema.anyOf.forEach((one, at) => span.append(at ? " or " : "", brief(one)));
  else if (schema.type === "array") span.append("array of ", brief(schema.items || {}));
  else if (schema.type) span.append([].concat(schema.type).join(" or "));
  else span.append("any JSON");
  const bounds = [];
  const { minimum, maximum } = schema;
  if (maximum <= Number.MAX_SAFE_INTEGER) bounds.push(`${minimum ?? "…"} to ${maximum}`);
  else if (minimum !== undefined) bounds.push(`${minimum} or more`);
  if (schema.maxLength) bounds.push(`at most ${schema.maxLength} characters`);
  if (schema.maxItems) bounds.push(`at most ${schema.maxItems}`);
  if (schema.default !== undefined) bounds.push(`default ${JSON.stringify(schema.default)}`);
  if (bounds.length) span.append(el("span", { className: "faint" }, ` (${bounds.join(", ")})`));
  return span;
}

/** A schema with its properties, one level deep: what is deeper has a name, or stands beneath. */
function whole(schema) {
  const box = el("div");
  if (schema.description) box.append(prose(schema.description));
  if (schema.pattern) box.append(el("p", {}, "Pattern ", el("code", {}, schema.pattern)));
  if (!schema.properties) {
    box.append(el("p", {}, brief(schema)));
    return box;
  }
  const list = el("ul");
  for (const [name, property] of Object.entries(schema.properties)) {
    const optional = (schema.required || []).includes(name) ? "" : el("span", { className: "faint" }, " (optional)");
    const item = el("li", {}, el("code", {}, name), optional, ": ", brief(property));
    if (property.description) item.append(". ", property.description);
    if (property.properties) item.append(whole(property));
    list.append(item);
  }
  box.append(list);
  return box;
}

/** An example of what a schema takes. */
function example(schema, depth = 0) {
  const s = resolved(schema);
  if (s.examples) return s.examples[0];
  if (s.default !== undefined) return s.default;
  if (s.enum) return s.enum[0];
  if ("const" in s) return s.const;
  if (s.anyOf) return example(s.anyOf[0], depth);
  if (s.type === "array") return s.minItems && depth < 4 ? [example(s.items, depth + 1)] : [];
  if (s.type === "integer") return s.minimum || 0;
  if (s.type === "boolean") return false;
  if (s.type === "string") return "";
  const made = {};
  for (const name of s.required || []) made[name] = example(s.properties[name], depth + 1);
  return made;
}

function parameterTable(parameters) {
  const body = el("tbody");
  for (const one of parameters) {
    const name = el("td", {}, el("code", {}, one.name), el("div", { className: "faint" }, one.required ? `${one.in}, required` : one.in));
    body.append(el("tr", {}, name, el("td", {}, prose(one.description || ""), brief(one.schema || {}))));
  }
  const head = el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Parameter"), el("th", { scope: "col" }, "Meaning")));
  return el("table", {}, head, body);
}

function answerTable(responses) {
  const body = el("tbody");
  for (const [status, reference] of Object.entries(responses)) {
    const answer = resolved(reference);
    const cell = el("td");
    const examples = Object.values(answer.content || {}).flatMap((one) => Object.values(one.examples || {})).map(resolved);
    if (examples.length < 2) cell.append(prose(answer.description || ""));
    for (const [media, { schema }] of Object.entries(answer.content || {}))
      cell.append(el("div", {}, el("span", { className: "faint" }, `${media}: `), brief(schema)));
    if (examples.length) {
      const list = el("ul");
      for (const one of examples)
        list.append(el("li", {}, `${one.summary} `, el("code", { className: "error" }, one.value.error)));
      cell.append(list);
    }
    const headers = Object.keys(answer.headers || {}).filter((name) => name !== "X-Request-ID");
    if (headers.length) cell.append(el("div", { className: "faint" }, `Headers: ${headers.join(", ")}`));
    body.append(el("tr", {}, el("td", {}, el("code", {}, status)), cell));
  }
  const head = el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Status"), el("th", { scope: "col" }, "Answer")));
  return el("table", {}, head, body);
}

const quoted = (text) => `'${text.replace(/'/g, "'\\''")}'`;

/** The form that sends a request, and says it as a line for curl. */
function attempt(method, path, operation, parameters) {
  const fields = parameters.map((one) => {
    const schema = resolved(one.schema);
    const initial = one.in === "path" && one.name === "namespace" ? "_" : "";
    const hint = schema.default !== undefined ? String(schema.default) : "";
    return { one, input: el("input", { value: initial, placeholder: hint, required: one.required, spellcheck: false, autocomplete: "off" }) };
  });
  const content = Object.entries((operation.requestBody || {}).content || {})[0];
  const takesBody = content || ["put", "post", "patch"].includes(method);
  const media = content ? content[0] : "application/json";
  const body = el("textarea", { spellcheck: false, ariaLabel: "Body", value: content ? JSON.stringify(example(content[1].schema), null, 2) : "" });
  const curl = el("pre", { tabIndex: 0 });
  const out = el("div", { ariaLive: "polite" });

  const request = () => {
    let url = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const { one, input } of fields) {
      if (one.in === "path") url = url.replace(`{${one.name}}`, encodeURIComponent(input.value));
      else if (input.value === "") continue;
      else if (one.in === "query") query.append(one.name, input.value);
      else headers[one.name] = input.value;
    }
    if ([...query].length) url += `?${query}`;
    const key = $("key").value.trim();
    const text = takesBody && body.value !== "" ? body.value : undefined;
    if (text !== undefined) headers["Content-Type"] = media;
    return { url: new URL(url, location.origin).href, headers, key, text };
  };
  const line = () => {
    const { url, headers, key, text } = request();
    const parts = [`curl -X ${method.toUpperCase()} ${quoted(url)}`];
    if (key) parts.push('-u "$WISP_KEY"');
    for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
    if (text !== undefined) parts.push(`-d ${quoted(text)}`);
    curl.textContent = parts.join(" \\\n  ");
  };
  const send = async () => {
    const { url, headers, key, text } = request();
    if (key) headers.Authorization = `Basic ${btoa(unescape(encodeURIComponent(key)))}`;
    out.replaceChildren(el("p", { className: "faint" }, "Waiting…"));
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), 65000);
    const started = performance.now();
    try {
      const got = await fetch(url, { method: method.toUpperCase(), headers, body: text, signal: stop.signal, credentials: "omit", cache: "no-store" });
      const answer = got.headers.get("content-type")?.startsWith("text/event-stream") ? (stop.abort(), "(a stream without end: use curl)") : await got.text();
      const took = Math.round(performance.now() - started);
      let shown = answer;
      try { shown = JSON.stringify(JSON.parse(answer), null, 2); } catch { /* It is no JSON. */ }
      const lines = [...got.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
      out.replaceChildren(el("p", {}, el("strong", {}, `${got.status} ${got.statusText}`), ` in ${took} ms`),
        el("pre", { tabIndex: 0 }, lines), el("pre", { tabIndex: 0 }, shown || "(empty)"));
    } catch (error) {
      out.replaceChildren(el("p", {}, `No answer: ${error.message}`));
    } finally {
      clearTimeout(timer);
    }
  };

  const form = el("form", { ariaLabel: `Try ${method.toUpperCase()} ${path}` });
  for (const { one, input } of fields) form.append(el("label", {}, el("span", {}, el("code", {}, one.name), el("span", { className: "faint" }, ` ${one.in}`)), input));
  if (takesBody) form.append(body);
  form.append(el("div", { className: "row" }, el("button", {}, "Send")), curl, out);
  form.addEventListener("input", line);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    line();
    send();
  });
  $("key").addEventListener("input", line);
  line();
  return form;
}

function inside(method, path, operation) {
  const box = el("div", { className: "inside" });
  const parameters = (operation.parameters || []).map(resolved);
  if (operation.description) box.append(prose(operation.description));
  const needs = (operation.security || []).map((one) => Object.keys(one)[0]);
  const who = !needs.length ? "Anyone may." : needs.includes(undefined) ? "Anyone may, unless the action wants a key." : needs.includes("systemKey") ? "Needs the system's key." : "Needs a key.";
  box.append(el("p", { className: "faint" }, who));
  if (parameters.length) box.append(el("h3", {}, "Parameters"), parameterTable(parameters));
  if (operation.requestBody) {
    const [media, { schema }] = Object.entries(operation.requestBody.content)[0];
    box.append(el("h3", {}, operation.requestBody.required ? "Body, required" : "Body"), prose(operation.requestBody.description || ""),
      el("p", {}, el("span", { className: "faint" }, `${media}: `), brief(schema)));
  }
  box.append(el("h3", {}, "Answers"), answerTable(operation.responses));
  box.append(el("h3", {}, "Try it"), attempt(method, path, operation, parameters));
  return box;
}

/** Everything of an operation that a search looks through. */
function words(method, path, operation) {
  const errors = Object.values(operation.responses).map(resolved).flatMap((answer) => Object.values(answer.content || {}))
    .flatMap((one) => Object.values(one.examples || {})).map((one) => resolved(one).value.error);
  const names = (operation.parameters || []).map((one) => resolved(one).name);
  return [method, path, operation.operationId, operation.summary, operation.description, ...names, ...errors].join(" ").toLowerCase();
}

const shown = [];

function show() {
  $("version").textContent = api.info.version;
  prose(api.info.description || "", $("about"));
  const groups = new Map(api.tags.map(({ name }) => [name, { section: el("section", {}, el("h2", {}, name)), list: el("div", {}, el("h2", {}, name)) }]));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      if (!operation.operationId) continue;
      const { section, list } = groups.get(operation.tags[0]);
      const id = operation.operationId;
      const summary = el("summary", {}, el("span", { className: `method ${method}` }, method.toUpperCase()),
        el("span", { className: "path" }, path), el("span", { className: "says" }, operation.summary));
      const details = el("details", { className: "operation", id }, summary);
      details.addEventListener("toggle", () => {
        if (details.open && details.children.length === 1) details.append(inside(method, path, operation));
      });
      const link = el("a", { href: `#${id}`, title: operation.summary }, el("b", { className: method }, method.toUpperCase()), id);
      section.append(details);
      list.append(link);
      shown.push({ details, link, words: words(method, path, operation) });
    }
  }
  for (const { section, list } of groups.values()) {
    $("groups").append(section);
    $("index").append(list);
  }
  for (const [name, schema] of Object.entries(api.components.schemas))
    $("schemas").append(el("h3", { id: `schema-${name}` }, name), whole(schema));
  $("schemas").hidden = false;
  search();
  follow();
}

function search() {
  const wanted = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const { details, link, words } of shown) {
    const fits = wanted.every((word) => words.includes(word));
    details.hidden = link.hidden = !fits;
    count += fits;
  }
  for (const group of [...$("groups").children, ...$("index").children])
    group.hidden = ![...group.children].some((child) => child.tagName !== "H2" && !child.hidden);
  $("state").textContent = wanted.length ? `${count} of ${shown.length} operations` : `${shown.length} operations`;
}

/** Opens the operation that the address names. */
function follow() {
  const target = $(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.tagName === "DETAILS") {
    target.open = true;
    target.firstElementChild.focus({ preventScroll: true });
  }
  target.scrollIntoView();
}

$("search").addEventListener("input", search);
addEventListener("hashchange", follow);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
  event.preventDefault();
  $("search").focus();
});

fetch("api-docs")
  .then((got) => (got.ok ? got.json() : Promise.reject(new Error(`status ${got.status}`))))
  .then((got) => {
    api = got;
    show();
  })
  .catch((error) => {
    $("state").textContent = `The document could not be loaded: ${error.message}`;
  });
