// A picture to take along: as a file, as text, as a command with the files that it needs.

import { curl } from "./snippets.js";
import { advise, toast } from "./status.js";

const $ = (id) => document.getElementById(id);

// A file into the downloads.
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    toast(done);
  } catch {
    advise("The browser does not let this page copy; select the text instead.", true);
  }
}

// `recipe`: how the picture was made, in the server's words; `files`: what it starts from, as blobs by name.
export function showSnippets(recipe, files, names, token) {
  const texts = [["Command", recipe.command], ["Python", recipe.python], ["curl", curl(recipe, names, token)]];
  $("snippet-notes").replaceChildren(...recipe.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
  $("snippet-files").replaceChildren(...Object.entries(files).map(([name, blob]) => button(`Save ${name}`, () => save(blob, name))));
  $("snippets").replaceChildren(...texts.filter(([, text]) => text).map(([title, text]) => snippet(title, text)));
  $("code").showModal();
}

function button(text, act) {
  const made = Object.assign(document.createElement("button"), { type: "button", className: "text-button", textContent: text });
  made.addEventListener("click", act);
  return made;
}

function snippet(title, text) {
  const made = document.createElement("section");
  made.className = "snippet";
  const header = document.createElement("header");
  const copying = button("Copy", () => copy(text, "Copied"));
  copying.setAttribute("aria-label", `Copy: ${title}`);
  header.append(title, copying);
  const code = document.createElement("pre");
  code.tabIndex = 0;
  code.textContent = text;
  made.append(header, code);
  return made;
}
