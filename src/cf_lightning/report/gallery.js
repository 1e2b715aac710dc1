// The gallery of clusters: sorts, filters and pages cards; a card's images are made when it is shown.
"use strict";
const PAGE = 24;
const PLACES = {nearest: "nearest to the centroid", random: "drawn at random", farthest: "farthest from the centroid"};

function element(name, text, settings = {}) {
  return Object.assign(document.createElement(name), {textContent: text}, settings);
}

function strip(picture, place, cluster) {
  const row = element("div", "", {className: "strip"}), box = document.createElement("div");
  const image = new Image();
  image.alt = `Samples of cluster ${cluster} ${PLACES[place]}`;
  image.src = "data:image/webp;base64," + picture;
  box.append(image);
  row.append(element("span", place), box);
  return row;
}

function gallery(root) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const form = root.querySelector("form"), pager = root.querySelector(".pager"), cards = root.querySelector(".cards");
  const {sort, order, filter, pictured} = form.elements, {previous, next} = Object.fromEntries([...pager.querySelectorAll("button")].map(one => [one.name, one]));
  const every = data.cluster.map((_, place) => place);
  const searched = data.names.map(names => names.map(([name]) => name.toLowerCase()));
  let chosen = every, page = 0, falling = true;
  cards.style.setProperty("--columns", data.columns);
  cards.style.setProperty("--frames", data.frames);

  function card(place) {
    const number = data.cluster[place], names = element("p", "", {className: "names"});
    const facts = [`${data.size[place].toLocaleString("en")} sample${data.size[place] === 1 ? "" : "s"}`];
    if (data.share[place] !== null) facts.push(`${data.measure} ${(100 * data.share[place]).toFixed(0)} %`);
    if (data.radius[place] !== null) facts.push(`radius ${data.radius[place].toPrecision(2)}`);
    for (const [name, count, lift] of data.names[place]) {
      const button = element("button", name + " ", {type: "button", title: `${count} samples, ${lift} times the usual share; show clusters with it`});
      button.append(element("small", count));
      button.addEventListener("click", () => { filter.value = name; choose(); filter.focus(); });
      names.append(button);
    }
    const item = element("li", "", {className: "card"});
    item.append(element("h4", `Cluster ${number}`), element("p", facts.join(" · "), {className: "soft"}), names);
    const pictures = data.strips[place];
    if (pictures) Object.keys(PLACES).forEach((name, at) => pictures[at] && item.append(strip(pictures[at], name, number)));
    return item;
  }

  function show(to) {
    const pages = Math.max(1, Math.ceil(chosen.length / PAGE));
    page = Math.min(Math.max(to, 0), pages - 1);
    cards.replaceChildren(...chosen.slice(page * PAGE, (page + 1) * PAGE).map(card));
    form.querySelector("[role=status]").textContent = `${chosen.length.toLocaleString("en")} of ${every.length.toLocaleString("en")} clusters`;
    pager.querySelector("span").textContent = `page ${page + 1} of ${pages}`;
    previous.disabled = page === 0;
    next.disabled = page === pages - 1;
  }

  function choose() {
    const text = filter.value.trim().toLowerCase(), column = data[sort.value], sign = falling ? -1 : 1;
    const fits = place => !text || String(data.cluster[place]) === text || searched[place].some(name => name.includes(text));
    const compare = sort.value === "names"
      ? (a, b) => (searched[a][0] ?? "").localeCompare(searched[b][0] ?? "", "en", {numeric: true})
      : (a, b) => column[a] - column[b];
    const missing = place => sort.value === "names" ? !searched[place].length : column[place] === null;
    chosen = every.filter(place => fits(place) && !(pictured?.checked && !data.strips[place]));
    chosen.sort((a, b) => missing(a) - missing(b) || sign * compare(a, b) || a - b);
    order.textContent = falling ? "↓ falling" : "↑ rising";
    show(0);
  }

  form.addEventListener("submit", event => event.preventDefault());
  sort.addEventListener("change", () => { falling = !["names", "cluster"].includes(sort.value); choose(); });
  order.addEventListener("click", () => { falling = !falling; choose(); });
  filter.addEventListener("input", choose);
  pictured?.addEventListener("change", choose);
  for (const [button, step] of [[previous, -1], [next, 1]])
    button.addEventListener("click", () => { show(page + step); root.scrollIntoView({block: "start"}); });
  form.hidden = pager.hidden = false;
  choose();
}

document.querySelectorAll(".gallery").forEach(gallery);
