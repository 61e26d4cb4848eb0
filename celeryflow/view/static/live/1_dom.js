// The live view of a run. These files, in order, are one module: no build, no library.
// What people wrote only ever goes into the page as text, or as HTML that the kernel has escaped.

const SVG = "http://www.w3.org/2000/svg";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(made, name, value);
  made.append(...children);
  return made;
}

function button(text, act, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", act);
  return made;
}

// What is as it was is not touched, so that the browser has nothing to lay out anew.

function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

function setText(node, text) {
  const inside = node.firstChild;
  // New words in the text that is there: no element comes or goes, of which the page around would have to be told.
  if (inside?.nodeType === Node.TEXT_NODE && !inside.nextSibling) {
    if (inside.data !== text) inside.data = text;
  } else if (node.textContent !== text) node.textContent = text;
}

function setClass(node, name, isOn) {
  if (node.classList.contains(name) !== isOn) node.classList.toggle(name, isOn);
}
