// The page is complete without this. It joins what belongs together, and opens what is folded before printing.
(function () {
  "use strict";
  var marked = document.querySelectorAll("[data-alert]");
  function light(number) {
    marked.forEach(function (element) {
      element.classList.toggle("lit", element.getAttribute("data-alert") === number);
    });
    document.body.classList.toggle("lighting", number !== null);
  }
  marked.forEach(function (element) {
    if (element.tagName === "ARTICLE") { return; }
    element.addEventListener("mouseenter", function () { light(element.getAttribute("data-alert")); });
    element.addEventListener("mouseleave", function () { light(null); });
  });

  var folded = [];
  window.addEventListener("beforeprint", function () {
    folded = Array.prototype.slice.call(document.querySelectorAll("details:not([open])"));
    folded.forEach(function (details) { details.open = true; });
  });
  window.addEventListener("afterprint", function () {
    folded.forEach(function (details) { details.open = false; });
  });

  var rows = document.querySelectorAll("[data-severity]");
  var heading = document.querySelector("#alerts h2");
  var counts = {};
  document.querySelectorAll("#alerts [data-severity]").forEach(function (row) {
    var severity = row.getAttribute("data-severity");
    counts[severity] = (counts[severity] || 0) + 1;
  });
  if (!heading || Object.keys(counts).length < 2) { return; }
  var bar = document.createElement("span");
  bar.className = "filter";
  ["all"].concat(Object.keys(counts).sort()).forEach(function (severity) {
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = severity === "all" ? "all" : severity + " " + counts[severity];
    button.setAttribute("aria-pressed", String(severity === "all"));
    button.addEventListener("click", function () {
      bar.querySelectorAll("button").forEach(function (other) {
        other.setAttribute("aria-pressed", String(other === button));
      });
      rows.forEach(function (row) {
        row.hidden = severity !== "all" && row.getAttribute("data-severity") !== severity;
      });
    });
    bar.appendChild(button);
  });
  heading.appendChild(bar);
})();
