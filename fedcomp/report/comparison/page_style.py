"""What a report's page looks like, and the little that it does: nothing needs it to be read."""

STYLE = """
:root { color-scheme: light dark; --paper: #fefefd; --ink: #1b1c1d; --faint: #5d5e60;
  --grid: #dddedf; --raised: #f3f3f1; --mark: #9a4a00;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #e7e8ea; --faint: #a3a7ad;
  --grid: #33383f; --raised: #1e2329; --mark: #f0a35e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 var(--sans); }
header, main { max-width: 90rem; margin: 0 auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 1.5rem 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: .25rem 0; max-width: 60rem; }
.lead, figcaption p, .faint { color: var(--faint); }
.notes { padding-left: 1.2rem; margin: .5rem 0; font-size: .9rem; color: var(--faint); }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--faint); }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--grid); }
thead th { border-bottom: 1px solid var(--faint); vertical-align: bottom; }
.words { text-align: left; }
tbody th { font-weight: 500; text-align: left; }
th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid var(--faint); }
th[aria-sort=ascending] button::after { content: " ↑"; }
th[aria-sort=descending] button::after { content: " ↓"; }
.open { color: var(--mark); }
.key { width: 1.75rem; height: .5rem; margin-right: .5rem; }
.pictures { display: grid; gap: 1.5rem 2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 34rem), 1fr)); }
figure { margin: 0; min-width: 0; }
figcaption p { font-size: .875rem; }
figure svg { display: block; width: 100%; height: auto;
  min-width: calc(var(--wide) * .95px); max-width: calc(var(--wide) * 1.6px); }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
.lit [data-line] { opacity: .18; }
.lit [data-line].on { opacity: 1; }
tr.on { background: var(--raised); }
summary { cursor: pointer; }
footer { color: var(--faint); font-size: .875rem; margin: 2rem 0; }
@media print { .scroll { overflow: visible; } details > * { display: revert; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table.sorted")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = row => row.cells[at].dataset.value ?? row.cells[at].textContent;
      const empty = row => value(row) === "";
      const compare = (a, b) => empty(a) - empty(b) || (down ? -1 : 1) *
        value(a).localeCompare(value(b), "en", {numeric: true});
      const number = row => Number(value(row));
      const numbers = (a, b) => empty(a) - empty(b) || (down ? -1 : 1) * (number(a) - number(b));
      const rows = [...body.rows];
      rows.sort(rows.every(row => empty(row) || !isNaN(number(row))) ? numbers : compare);
      body.append(...rows);
    });
  });
}
const main = document.querySelector("main");
const light = number => {
  main.classList.toggle("lit", number !== undefined);
  for (const part of document.querySelectorAll("[data-line]"))
    part.classList.toggle("on", part.dataset.line === number);
};
main.addEventListener("pointerover", event =>
  light(event.target.closest("[data-line]")?.dataset.line));
main.addEventListener("pointerleave", () => light());
"""
