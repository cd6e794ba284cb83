// What a page shows is looked up in the tables that Python computed: the index of a threshold is all there is to choose.
"use strict";

const found = JSON.parse(document.getElementById("found").textContent);
const $ = (id) => document.getElementById(id);
const KINDS = { f4: Float32Array, f8: Float64Array, i4: Int32Array, u1: Uint8Array };
const STRIP = 16; // samples of a kind in the overview
const PAGE = 120;
const STEPS = 1000; // of the slider of thresholds
const RINGS = 400; // more of them would hide the points
const START = 0.9; // share that is kept at first

/** Arrays as they were packed, each unpacked when it is first looked at. */
const unpacked = new WeakMap();
function array(packed) {
  if (!unpacked.has(packed)) {
    const bytes = Uint8Array.from(atob(packed.bytes), (c) => c.charCodeAt(0));
    unpacked.set(packed, new KINDS[packed.kind](bytes.buffer));
  }
  return unpacked.get(packed);
}

const count = (n) => n.toLocaleString("en");
function number(x) {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "none" : "infinite";
  const size = Math.abs(x);
  const plain = size === 0 || (size >= 1e-4 && size < 1e7);
  return plain ? String(Number(x.toPrecision(5))) : x.toExponential(3).replace(/\.?0+e/, "e");
}
const percent = (x) => `${Number(x >= 0.001 ? (100 * x).toFixed(2) : (100 * x).toPrecision(2))} %`;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function element(tag, { text, ...given } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) if (value !== undefined) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

/* --- what is chosen ------------------------------------------------------------------------------------------------ */

const chosen = { score: 0, table: 0, cut: 0, tab: "overview", page: 0, sample: null };
const score = () => found.scores[chosen.score];
const table = () => score().tables[chosen.table];
const values = (t) => array(t.value);
const shares = new WeakMap();
function shareWords(t) {
  if (!shares.has(t)) shares.set(t, t.share ? t.share.split(" ") : []);
  return shares.get(t);
}

/** The last index whose entry is at most x, or 0. */
function lastAtMost(sorted, x) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= x) low = middle + 1;
    else high = middle;
  }
  return Math.max(low - 1, 0);
}

/** From steps of the slider to the score's axis, in the precision that places on it have. */
const onAxis = (steps) => Math.fround(steps === STEPS ? score().axis.high : score().axis.low + (steps / STEPS) * width());
const width = () => score().axis.high - score().axis.low;

/** The first threshold that keeps at least this share. */
function cutOfShare(t, share) {
  const words = shareWords(t);
  let at = words.findIndex((word) => Number(word) >= share);
  if (at < 0) at = words.length - 1;
  return Math.max(at, 0);
}

const orders = new Map();
/** Shown samples of the chosen class, by rising score; those without a score are not among them. */
function order() {
  const key = `${chosen.score}/${chosen.table}`;
  if (!orders.has(key)) {
    let ranked = array(score().order);
    if (chosen.table > 0) {
      const of = array(found.classes.of);
      const wanted = found.classes.names.indexOf(table().label);
      ranked = ranked.filter((k) => of[k] === wanted);
    }
    orders.set(key, ranked);
  }
  return orders.get(key);
}
const keptShown = () => (values(table()).length ? array(table().shown)[chosen.cut] : 0);

function unscored() {
  const all = found.scores.length ? array(score().values) : new Float64Array(found.shown).fill(NaN);
  const without = [];
  const of = chosen.table > 0 ? array(found.classes.of) : null;
  const wanted = of && found.classes.names.indexOf(table().label);
  all.forEach((value, k) => Number.isNaN(value) && (!of || of[k] === wanted) && without.push(k));
  return without;
}

/* --- charts -------------------------------------------------------------------------------------------------------- */

const charts = {};
const grid = () => ({ stroke: colour("line"), width: 1 });
function axis(label, given) {
  const font = "12px system-ui";
  return { stroke: colour("soft"), grid: grid(), ticks: grid(), label, labelSize: 20, labelFont: font, font, ...given };
}
const across = (label, values) => axis(label, { size: 30, space: 64, ...(values && { values }) });
const upright = (label, values) => axis(label, { size: 56, space: 28, ...(values && { values }) });

function draw(name, caption, options, data) {
  const place = $(name).querySelector(".chart");
  $(name).hidden = false;
  $(name).querySelector("figcaption").textContent = caption;
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", caption);
  charts[name]?.destroy();
  const size = { width: place.clientWidth, height: place.clientHeight };
  const plain = { legend: { show: false }, cursor: { drag: { setScale: false, x: false }, points: { show: false } } };
  charts[name] = new uPlot({ ...size, ...plain, padding: [8, 24, 0, 0], ...options }, data, place);
}

function scoreTick(x) {
  return score().axis.log ? number(Number((10 ** x).toPrecision(2))) : number(x);
}

/** In red, what is over the threshold. */
function shade(u, vertical) {
  const t = table();
  if (!values(t).length) return;
  const { left, top, width, height } = u.bbox;
  const at = u.valToPos(array(t.at)[chosen.cut], vertical ? "y" : "x", true);
  u.ctx.save();
  u.ctx.fillStyle = u.ctx.strokeStyle = colour("red");
  u.ctx.globalAlpha = 0.1;
  if (vertical) u.ctx.fillRect(left, top, width, Math.max(at - top, 0));
  else u.ctx.fillRect(at, top, Math.max(left + width - at, 0), height);
  u.ctx.globalAlpha = 1;
  u.ctx.lineWidth = 2 * devicePixelRatio;
  u.ctx.beginPath();
  u.ctx.moveTo(vertical ? left : at, vertical ? at : top);
  u.ctx.lineTo(vertical ? left + width : at, vertical ? at : top + height);
  u.ctx.stroke();
  u.ctx.restore();
}

const atClick = (scale, act) => (u) =>
  u.over.addEventListener("click", (event) => act(u, u.posToVal(scale === "x" ? event.offsetX : event.offsetY, scale), event));

function drawHistogram() {
  const { low, high } = score().axis;
  const t = table();
  const bins = t.others.length;
  const centres = t.others.map((_, k) => low + ((k + 0.5) * (high - low)) / bins);
  const some = (counts) => counts.map((n) => n || null);
  const bars = uPlot.paths.bars({ size: [1, Infinity], gap: 1 });
  const series = (name) => ({ stroke: colour(name), fill: `${colour(name)}99`, width: 1, paths: bars, points: { show: false } });
  const most = Math.max(1, ...t.others, ...(t.bad || []));
  const power = (n) => n >= 1 && Number.isInteger(Math.log10(n));
  const powers = (u, ticks) => ticks.map((n) => (power(n) ? n : null));
  const truth = t.bad ? ": hallucinated in orange, others in blue" : "";
  draw(
    "histogram",
    `Samples by ${score().name}${truth}; what is removed is shaded. Counts on a log axis.`,
    {
      scales: { x: { time: false, range: [low, high] }, y: { distr: 3, range: [0.5, 2 * most] } },
      axes: [
        across(score().name, (u, ticks) => ticks.map(scoreTick)),
        {
          ...upright("samples", (u, ticks) => ticks.map((n) => (power(n) ? count(n) : ""))),
          grid: { ...grid(), filter: powers },
          ticks: { ...grid(), filter: powers },
        },
      ],
      series: [{}, series("blue"), ...(t.bad ? [series("orange")] : [])],
      hooks: { draw: [(u) => shade(u, false)], ready: [atClick("x", (u, x) => choose(lastAtMost(array(table().at), x)))] },
    },
    [centres, some(t.others), ...(t.bad ? [some(t.bad)] : [])],
  );
}

function drawCurve() {
  const known = table().labelled;
  $("curve").hidden = !known;
  if (!known) return;
  const [kept] = known.kept_share.map(array);
  const [removed, low, high] = known.removed_share.map(array);
  const [precision] = known.precision.map(array);
  const list = (a) => Array.from(a, (x) => (Number.isNaN(x) ? null : x));
  const share = (u, ticks) => ticks.map(percent);
  draw(
    "curve",
    "Hallucinations removed against others kept, 95 % interval; dashed: precision of what is removed.",
    {
      scales: { x: { time: false, range: [0, 1] }, y: { range: [0, 1.02] } },
      axes: [across("others kept", share), upright("hallucinations removed", share)],
      series: [
        {},
        { stroke: "transparent", points: { show: false } },
        { stroke: "transparent", points: { show: false } },
        { stroke: colour("orange"), width: 2, points: { show: false } },
        { stroke: colour("soft"), width: 1.5, dash: [5, 4], points: { show: false } },
      ],
      bands: [{ series: [2, 1], fill: `${colour("orange")}33` }],
      hooks: {
        draw: [
          (u) => {
            const at = [u.valToPos(kept[chosen.cut], "x", true), u.valToPos(removed[chosen.cut], "y", true)];
            u.ctx.fillStyle = colour("red");
            u.ctx.beginPath();
            u.ctx.arc(...at, 5 * devicePixelRatio, 0, 2 * Math.PI);
            u.ctx.fill();
          },
        ],
        ready: [atClick("x", (u, x) => choose(lastAtMost(kept, x)))],
      },
    },
    [list(kept), list(low), list(high), list(removed), list(precision)],
  );
}

/** Where a sample stands in the scatter: one number against its score, or two numbers against each other. */
function place(k) {
  const { dimensions } = found.points;
  const x = array(found.points.values);
  if (dimensions === 2) return [x[2 * k], x[2 * k + 1]];
  return [x[k], found.scores.length ? array(score().at)[k] : 0];
}

function drawScatter() {
  if (!found.points) return;
  const { dimensions, range } = found.points;
  const scored = found.scores.length > 0;
  const along = range[0];
  const up = dimensions === 2 ? range[1] : scored ? [score().axis.low, score().axis.high] : [-1, 1];
  const bad = found.hallucinated && array(found.hallucinated);
  const ringed = bad && bad.filter((truth) => truth === 1).length <= RINGS;
  const dots = (u) => {
    const ranked = scored ? order() : Uint32Array.from({ length: found.shown }, (_, k) => k);
    const kept = scored ? keptShown() : ranked.length;
    const ratio = devicePixelRatio;
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    u.ctx.clip();
    const [blue, red, orange] = ["blue", "red", "orange"].map(colour);
    ranked.forEach((k, rank) => {
      u.ctx.fillStyle = bad && !ringed && bad[k] === 1 ? orange : rank < kept ? blue : red;
      const side = (rank < kept ? 2 : 4) * ratio;
      const [x, y] = place(k);
      const [left, top] = [u.valToPos(x, "x", true), u.valToPos(y, "y", true)];
      u.ctx.fillRect(left - side / 2, top - side / 2, side, side);
    });
    if (ringed) {
      u.ctx.strokeStyle = orange;
      u.ctx.lineWidth = 1.5 * ratio;
      for (const k of ranked) {
        if (bad[k] !== 1) continue;
        const [x, y] = place(k);
        u.ctx.beginPath();
        u.ctx.arc(u.valToPos(x, "x", true), u.valToPos(y, "y", true), 5 * ratio, 0, 2 * Math.PI);
        u.ctx.stroke();
      }
    }
    u.ctx.restore();
    if (scored && dimensions === 1) shade(u, true);
  };
  const nearest = (u, x, event) => {
    let [best, least] = [null, 20 ** 2];
    const candidates = scored ? order() : Array.from({ length: found.shown }, (_, k) => k);
    for (const k of candidates) {
      const [a, b] = place(k);
      const away = (u.valToPos(a, "x") - event.offsetX) ** 2 + (u.valToPos(b, "y") - event.offsetY) ** 2;
      if (away < least) [best, least] = [k, away];
    }
    if (best !== null) show(best);
  };
  const ring = !bad ? "" : ringed ? "; a ring around what is hallucinated" : "; what is hallucinated is orange";
  draw(
    "scatter",
    `${count(found.shown)} of ${count(found.samples)} samples: removed large and red, kept small and blue${ring}. Click on one.`,
    {
      scales: { x: { time: false, range: along }, y: { range: up } },
      axes: [
        across(dimensions === 2 ? "first number" : "sample"),
        dimensions === 2
          ? upright("second number")
          : upright(scored ? score().name : "", (u, ticks) => ticks.map(scored ? scoreTick : () => "")),
      ],
      series: [{}, { points: { show: false } }],
      hooks: { draw: [dots], ready: [atClick("x", nearest)] },
    },
    [along, [null, null]],
  );
}

/* --- samples ------------------------------------------------------------------------------------------------------- */

const source = (encoded) => `data:image/webp;base64,${encoded}`;

function picture(k, given = {}) {
  const encoded = found.pictures?.[k];
  if (!encoded) return element("span", { class: "blank", text: found.pictures ? "cannot be read" : numbersOf(k) });
  return element("img", { decoding: "async", ...given, alt: `sample ${found.ids[k]}`, src: source(encoded) });
}

function numbersOf(k) {
  if (!found.points) return found.ids[k];
  const { dimensions } = found.points;
  return Array.from(array(found.points.values).slice(dimensions * k, dimensions * (k + 1)), number).join(", ");
}

function card(k, removed) {
  const made = element("button", { type: "button", class: `card${removed ? " removed" : ""}${found.pictures ? "" : " plain"}`, "data-sample": k });
  made.append(picture(k));
  if (found.scores.length) made.append(element("span", { class: "score", text: number(array(score().values)[k]) }));
  if (removed) made.append(element("span", { class: "gone", text: "removed" }));
  if (found.hallucinated && array(found.hallucinated)[k] === 1) made.append(element("span", { class: "bad", text: "hallucinated" }));
  return made;
}

const placed = new WeakMap();
/** Put cards into a place; where the same ones stand there already, nothing is done. */
function fill(place, list, removed) {
  const key = `${chosen.score} ${removed} ${list.join()}`;
  if (placed.get(place) === key) return;
  placed.set(place, key);
  place.replaceChildren(...Array.from(list, (k) => card(k, removed)));
}

const TABS = {
  overview: "Overview",
  removed: "Removed, worst first",
  kept: "Kept, best first",
  without: "Without a score",
};

function listOf(tab) {
  if (tab === "without") return unscored();
  return tab === "kept" ? order().slice(0, keptShown()) : order().slice(keptShown()).reverse();
}

function drawGallery() {
  const overview = chosen.tab === "overview";
  $("overview").hidden = !overview;
  $("pages").hidden = $("listed").hidden = overview;
  if (overview) {
    const ranked = order();
    const kept = keptShown();
    const strips = [
      [ranked.slice(kept, kept + STRIP), true],
      [ranked.slice(Math.max(kept - STRIP, 0), kept).reverse(), false],
      [ranked.slice(Math.max(kept, ranked.length - STRIP)).reverse(), true],
      [ranked.slice(0, Math.min(kept, STRIP)), false],
    ];
    [...$("overview").children].forEach((strip, k) => {
      const [list, removed] = strips[k];
      strip.hidden = list.length === 0;
      fill(strip.querySelector(".cards"), list, removed);
    });
    return;
  }
  const list = listOf(chosen.tab);
  const pages = Math.max(Math.ceil(list.length / PAGE), 1);
  chosen.page = Math.min(chosen.page, pages - 1);
  const first = chosen.page * PAGE;
  fill($("listed"), list.slice(first, first + PAGE), chosen.tab === "removed");
  $("page-is").textContent = list.length ? `page ${chosen.page + 1} of ${pages}: ${count(list.length)} shown here` : "none";
  $("back").disabled = chosen.page === 0;
  $("next").disabled = chosen.page === pages - 1;
}

function drawTabs() {
  const t = found.scores.length ? table() : null;
  const kept = t && values(t).length ? array(t.kept)[chosen.cut] : 0;
  const counts = t ? { removed: t.samples - t.unscored - kept, kept, without: t.unscored } : { without: found.samples };
  const offered = t ? ["overview", "removed", "kept", ...(t.unscored ? ["without"] : [])] : ["without"];
  if (!offered.includes(chosen.tab)) chosen.tab = offered[0];
  const focused = document.activeElement?.id;
  $("tabs").replaceChildren(
    ...offered.map((tab) => {
      const text = t ? TABS[tab] + (tab in counts ? ` (${count(counts[tab])})` : "") : `All samples (${count(found.samples)})`;
      const selected = String(tab === chosen.tab);
      return element("button", { type: "button", role: "tab", id: `tab-${tab}`, "aria-selected": selected, "aria-controls": "gallery", text });
    }),
  );
  if (focused?.startsWith("tab-")) $(focused)?.focus();
}

/* --- one sample ---------------------------------------------------------------------------------------------------- */

const row = (name, ...cells) => element("tr", {}, element("th", { text: name, scope: "row" }), ...cells.map((text) => element("td", { text })));

function framesOf(list, captions) {
  const figures = list.map((encoded, k) => {
    const shown = encoded ? element("img", { src: source(encoded), alt: captions[k] }) : element("span", { text: "cannot be read" });
    return element("figure", {}, shown, element("span", { text: captions[k] }));
  });
  return element("div", { class: "frames", tabindex: 0 }, ...figures);
}

function trajectoryOf(k, body) {
  const moved = found.trajectories?.of[k];
  if (!moved) return;
  const { timesteps } = found.trajectories;
  body.append(element("h3", { text: "What the model expected it to become: x0_hat, from noise to the sample" }));
  if (Array.isArray(moved)) {
    body.append(framesOf(moved, timesteps.map((t) => `t = ${t}`)));
    return;
  }
  const chart = element("div", { class: "chart" });
  body.append(chart);
  const numbers = array(moved);
  const dimensions = numbers.length / timesteps.length;
  const rising = timesteps.map((t, i) => [t, i]).sort((a, b) => a[0] - b[0]);
  const columns = Array.from({ length: dimensions }, (_, d) => rising.map(([, i]) => numbers[i * dimensions + d]));
  const names = ["blue", "orange", "red", "soft"];
  new uPlot(
    {
      width: chart.clientWidth || 600, height: 220, legend: { show: false },
      scales: { x: { time: false, dir: -1 } },
      axes: [across("timestep t"), upright("x0_hat")],
      series: [{}, ...columns.map((_, d) => ({ stroke: colour(names[d % 4]), width: 1.5, points: { show: false } }))],
    },
    [rising.map(([t]) => t), ...columns],
    chart,
  );
}

function show(k) {
  chosen.sample = k;
  $("sample-id").textContent = `Sample ${found.ids[k]}`;
  const body = $("sample-body");
  body.replaceChildren();
  const facts = element("table");
  for (const each of found.scores) {
    const value = array(each.values)[k];
    const lower = Number.isNaN(value) ? "" : `higher than ${percent(array(each.lower)[k])} of all`;
    facts.append(row(each.name, number(value), lower));
  }
  if (found.points) facts.append(row("numbers", numbersOf(k), ""));
  if (found.classes) facts.append(row("class", found.classes.names[array(found.classes.of)[k]], ""));
  if (found.hallucinated) facts.append(row("truth", ["in-support", "hallucinated", "not labelled"][array(found.hallucinated)[k]], ""));
  if (found.rules) facts.append(row("rule", found.rules.names[array(found.rules.of)[k]], ""));
  if (found.pictures) body.append(element("div", { class: "two" }, picture(k, { class: "large" }), facts));
  else body.append(facts);
  if (!$("sample").open) $("sample").showModal();
  if (found.nearest) {
    const { each, ids, pictures, searched } = found.nearest;
    const which = array(found.nearest.which).slice(each * k, each * (k + 1));
    const far = array(found.nearest.distance).slice(each * k, each * (k + 1));
    body.append(element("h3", { text: `Nearest of ${count(searched)} training images, and their distance (root mean square, pixels in -1..1)` }));
    body.append(framesOf(Array.from(which, (w) => pictures[w]), Array.from(which, (w, i) => `${ids[w]}: ${number(far[i])}`)));
  }
  trajectoryOf(k, body);
  for (const image of body.querySelectorAll("img")) soften(image);
  const rank = found.scores.length ? order().indexOf(k) : -1;
  $("previous").disabled = rank <= 0;
  $("following").disabled = rank < 0 || rank === order().length - 1;
}

/** Few pixels stay pixels when they are enlarged. */
function soften(image) {
  image.addEventListener("load", () => image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= 64), { once: true });
}

function step(by) {
  const ranked = order();
  const next = ranked[ranked.indexOf(chosen.sample) + by];
  if (next !== undefined) show(next);
}

/* --- all together -------------------------------------------------------------------------------------------------- */

function drawNumbers() {
  const t = table();
  const empty = values(t).length === 0;
  for (const id of ["share", "threshold"]) $(id).disabled = empty;
  const kept = empty ? 0 : array(t.kept)[chosen.cut];
  const removed = empty ? t.samples - t.unscored : array(t.removed)[chosen.cut];
  $("kept").textContent = count(kept);
  $("removed").textContent = count(removed);
  const rest = [];
  if (t.unscored) rest.push(`${count(t.unscored)} without a score`);
  if (t.infinite) rest.push(`${count(t.infinite)} of the removed have a score that is not finite`);
  $("others").textContent = ` of ${count(t.samples)} samples${t.label === null ? "" : ` of class ${t.label}`}${rest.map((r) => `; ${r}`).join("")}`;
  $("share-is").textContent = empty ? "" : percent(kept / (t.samples - t.unscored));
  $("threshold-is").textContent = empty ? "" : number(values(t)[chosen.cut]);
  $("share").setAttribute("aria-valuetext", $("share-is").textContent);
  $("threshold").setAttribute("aria-valuetext", $("threshold-is").textContent);
  const known = t.labelled;
  $("truth").hidden = !known;
  if (known) {
    const interval = (triple) => {
      const [value, low, high] = triple.map((column) => array(column)[chosen.cut]);
      return Number.isNaN(value) ? "–" : `${percent(value)} [${percent(low)}, ${percent(high)}]`;
    };
    const unlabelled = found.unlabelled ? ` ${count(found.unlabelled)} samples are not labelled and stay out of this.` : "";
    $("truth").textContent =
      `Removed ${count(array(known.removed)[chosen.cut])} of ${count(known.hallucinated)} hallucinations: ` +
      `${interval(known.removed_share)}. Kept of the ${count(known.others)} others: ${interval(known.kept_share)}. ` +
      `Hallucinated among the removed, at this base rate: ${interval(known.precision)}. 95 % intervals, of a threshold that was not chosen by these labels.${unlabelled}`;
  }
}

let saved = null;
function drawExport() {
  const t = table();
  $("export").hidden = values(t).length === 0;
  if (values(t).length === 0) return;
  const share = shareWords(t)[chosen.cut];
  const { before, within, after } = score().command;
  const one = t.label === null;
  $("command").textContent = before + share + (one ? "" : within) + after;
  $("json").textContent = JSON.stringify({ value: values(t)[chosen.cut], rule: `quantile: kept ${share}`, score: score().score }, null, 2);
  $("export-means").textContent = one
    ? "The command keeps and removes what is kept and removed here. It changes nothing that is there."
    : `The command keeps the same share within each class; this threshold is that of ${t.label}.`;
  if (saved) URL.revokeObjectURL(saved);
  saved = URL.createObjectURL(new Blob([`${$("json").textContent}\n`], { type: "application/json" }));
  $("download").href = saved;
}

/** All that depends on the threshold; at most once a frame. */
let asked = false;
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (found.scores.length) {
      drawNumbers();
      drawExport();
      for (const name of ["histogram", "curve", "scatter"]) if (!$(name).hidden) charts[name]?.redraw(false);
    }
    drawTabs();
    drawGallery();
  });
}

/** Choose a threshold; the slider that is being moved is left where it is. */
function choose(cut, moved) {
  chosen.cut = cut;
  chosen.page = 0;
  const t = table();
  if (moved !== "share") $("share").value = cut;
  if (moved !== "threshold" && values(t).length) $("threshold").value = Math.round((STEPS * (array(t.at)[cut] - score().axis.low)) / width());
  redraw();
}

/** Another score or class: the same share is kept. */
function change(share) {
  const t = table();
  $("share").max = Math.max(values(t).length - 1, 0);
  drawHistogram();
  drawCurve();
  drawScatter();
  choose(cutOfShare(t, share));
}

function repaint() {
  if (found.scores.length) {
    drawHistogram();
    drawCurve();
  }
  drawScatter();
}

function begin() {
  const not = found.unread ? `; ${count(found.unread)} cannot be read` : "";
  const shown = found.shown < found.samples ? `, of which ${count(found.shown)} are shown: the highest scores, and some of the rest` : "";
  $("about").textContent = `${count(found.samples)} samples${shown}${not}. ${found.scores.length ? "Larger scores are more suspect. " : ""}${found.missing.join(". ")}`;
  const smallest = found.pictures?.find((each) => each);
  if (!found.pictures) document.documentElement.style.setProperty("--card", "128px");
  if (smallest) {
    const probe = new Image();
    probe.onload = () => document.body.classList.toggle("small", Math.max(probe.naturalWidth, probe.naturalHeight) <= 64);
    probe.src = source(smallest);
  }
  if (found.scores.length) {
    $("controls").hidden = false;
    found.scores.forEach((each, k) => $("score").append(element("option", { value: k, text: each.name })));
    const tables = found.scores[0].tables;
    $("of-class").hidden = tables.length === 1;
    const words = (label) => (label === null ? "all together" : `${label} (a threshold for each class)`);
    tables.forEach(({ label }, k) => $("class").append(element("option", { value: k, text: words(label) })));
    change(START);
  } else {
    drawScatter();
    redraw();
  }
}

const shareNow = () => Number(shareWords(table())[chosen.cut] ?? START);
$("score").addEventListener("change", (event) => {
  const share = shareNow();
  chosen.score = Number(event.target.value);
  change(share);
});
$("class").addEventListener("change", (event) => {
  const share = shareNow();
  chosen.table = Number(event.target.value);
  change(share);
});
$("share").addEventListener("input", (event) => choose(Number(event.target.value), "share"));
$("threshold").addEventListener("input", (event) => choose(lastAtMost(array(table().at), onAxis(Number(event.target.value))), "threshold"));
$("tabs").addEventListener("click", (event) => {
  if (!event.target.id.startsWith("tab-")) return;
  [chosen.tab, chosen.page] = [event.target.id.slice(4), 0];
  drawTabs();
  drawGallery();
});
for (const [id, by] of [["back", -1], ["next", 1]]) {
  $(id).addEventListener("click", () => {
    chosen.page += by;
    drawGallery();
  });
}
$("gallery").addEventListener("click", (event) => {
  const at = event.target.closest("[data-sample]");
  if (at) show(Number(at.dataset.sample));
});
$("gallery").addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const all = [...$("gallery").querySelectorAll(".card")];
  const next = by && all[all.indexOf(document.activeElement) + by];
  if (next) {
    next.focus();
    event.preventDefault();
  }
});
$("sample").addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (by && found.scores.length && !event.target.closest(".frames")) step(by);
});
$("previous").addEventListener("click", () => step(-1));
$("following").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => $("sample").close());
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText($(button.dataset.copy).textContent);
    const words = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = words), 1200);
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
const resized = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) charts[target.parentElement.id]?.setSize(contentRect);
});
for (const place of document.querySelectorAll("figure > .chart")) resized.observe(place);
begin();
