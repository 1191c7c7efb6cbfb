// A click on a bar makes it as wide as the picture; "Search" colours the bars with a text in their names and tells their part of all.
(function () {
  const MARGIN = 10, INNER = 1180, CHARACTER = 6.7;
  const frames = Array.from(document.querySelectorAll(".frame"), (element) => ({
    element,
    bar: element.querySelector("rect"),
    label: element.querySelector("text"),
    name: element.querySelector("title").textContent.replace(/ \([^(]*\)$/, ""),
    left: Number(element.dataset.left),
    samples: Number(element.dataset.samples),
    level: Number(element.dataset.level),
  }));
  const all = frames[0];

  function fitting(name, width) {
    const room = Math.floor((width - 6) / CHARACTER);
    if (room < 3) return "";
    return name.length <= room ? name : name.slice(0, room - 1) + "…";
  }

  function zoom(to) {
    for (const frame of frames) {
      const holds = frame.left <= to.left && frame.left + frame.samples >= to.left + to.samples;
      const isBelow = frame.level <= to.level && holds;
      const isAbove = frame.level > to.level && frame.left >= to.left && frame.left + frame.samples <= to.left + to.samples;
      frame.element.style.display = isBelow || isAbove ? "" : "none";
      const left = isBelow ? 0 : INNER * (frame.left - to.left) / to.samples;
      const width = isBelow ? INNER : INNER * frame.samples / to.samples;
      frame.bar.setAttribute("x", MARGIN + left);
      frame.bar.setAttribute("width", width);
      frame.label.setAttribute("x", MARGIN + left + 3);
      frame.label.textContent = fitting(frame.name, width);
    }
  }

  function search() {
    const wanted = prompt("A text in the names of functions:", "");
    let found = 0, until = 0;
    // In the order of the file a bar comes before those above it: what is within one that was found is not counted again.
    for (const frame of frames) {
      const matches = Boolean(wanted) && frame.name.includes(wanted);
      frame.bar.style.fill = matches ? "#b060e0" : "";
      if (matches && frame.left >= until) {
        found += frame.samples;
        until = frame.left + frame.samples;
      }
    }
    document.getElementById("found").textContent = wanted ? `${wanted}: ${(100 * found / all.samples).toFixed(2)} %` : "";
  }

  for (const frame of frames) frame.element.addEventListener("click", () => zoom(frame));
  document.getElementById("reset").addEventListener("click", () => zoom(all));
  document.getElementById("search").addEventListener("click", search);
})();
