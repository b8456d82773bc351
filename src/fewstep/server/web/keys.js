// The keyboard: a letter is an act, unless somebody is writing.

// `acts` by key; `undo(again)`, `steps(count)` and `another()` are what the other keys do.
export function listenToKeys({ acts, undo, steps, another }) {
  addEventListener("keydown", (event) => {
    const writing = event.target.closest("textarea, select, input:not([type=range], [type=checkbox], [type=color])");
    const command = event.ctrlKey || event.metaKey;
    if (event.key === "Escape" && writing) { event.target.blur(); return; }
    if (document.querySelector("dialog[open]")) return;
    if (command && event.key === "Enter") { another(); return; }
    if (writing || event.altKey) return;
    if (command) {
      if (event.key.toLowerCase() !== "z") return;
      event.preventDefault();
      undo(event.shiftKey);
    } else if (/^[1-8]$/.test(event.key)) steps(Number(event.key));
    else if (acts[event.key.toLowerCase()]) {
      event.preventDefault();
      acts[event.key.toLowerCase()]();
    }
  });
}
