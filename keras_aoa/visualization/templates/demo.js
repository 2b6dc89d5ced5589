"use strict";

// The photograph is sent with each request, so the program needs no sessions, and a page
// continues to work after the program was restarted.

const find = (id) => document.getElementById(id);
const maxBytes = Number(document.body.dataset.maxBytes);
let photograph = null;
let seed = 0;
const latest = {};  // the controller of the latest request, by path

function show(path, status, error = "", busy = false) {
  find(`${path}-status`).textContent = status;
  find(`${path}-status`).classList.toggle("busy", busy);
  find(`${path}-error`).textContent = error;
  find(`${path}-error`).hidden = !error;
}

async function ask(path, settings, busy) {
  latest[path]?.abort();
  const controller = (latest[path] = new AbortController());
  const query = new URLSearchParams({ ...settings, name: photograph.name || "photograph" });
  show(path, busy, "", true);
  let reply;
  try {
    const options = { method: "POST", body: photograph, signal: controller.signal };
    reply = await (await fetch(`${path}?${query}`, options)).json();
  } catch {
    reply = { error: "No answer. The program has ended, or the file has changed; start the program again, or choose the file again." };
  }
  // A newer request has replaced this one.
  if (controller !== latest[path]) return null;
  find(`${path}-result`).innerHTML = reply.html ?? "";
  return reply;
}

async function caption() {
  if (!photograph) return;
  const settings = { captions: find("captions").value, min_words: find("min_words").value };
  if (isSampling()) Object.assign(settings, { temperature: find("temperature").value, seed });
  const reply = await ask("captions", settings, `Captioning ${photograph.name} …`);
  if (reply) show("captions", reply.captions?.join(" / ") ?? "", reply.error);
}

async function score() {
  const sentence = find("sentence").value.trim();
  if (!photograph) return show("sentence", "", "Choose a photograph first.");
  if (!sentence) return show("sentence", "", "Type a sentence first.");
  const reply = await ask("sentence", { sentence }, "Scoring …");
  if (!reply) return;
  show("sentence", "", reply.error);
  find("note").textContent = reply.note ?? "";
  find("scored").hidden = !reply.html;
  find("scored").scrollIntoView({ block: "nearest" });
}

function choose(file) {
  if (file.size > maxBytes) {
    return show("captions", "", `${file.name}: expected at most ${Math.floor(maxBytes / 1e6)} MB, received ${Math.ceil(file.size / 1e6)}; shrink the photograph.`);
  }
  photograph = file;
  seed = 0;
  latest.sentence?.abort();
  latest.sentence = null;
  show("sentence", "");
  find("captions-result").textContent = find("sentence-result").textContent = "";
  find("scored").hidden = true;
  caption();
}

const isSampling = () => document.querySelector("[name=search]:checked").value === "sample";

// --- choosing a photograph ---

for (const id of ["file", "phone-camera"]) {
  find(id).addEventListener("change", (event) => {
    if (event.target.files.length) choose(event.target.files[0]);
    event.target.value = "";  // so that the same file can be chosen again
  });
}

const holdsFiles = (event) => event.dataTransfer.types.length > 0;
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  find("drop-here").hidden = !holdsFiles(event);
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) find("drop-here").hidden = true;
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  find("drop-here").hidden = true;
  receive(event.dataTransfer, "dropped");
});
document.addEventListener("paste", (event) => {
  const isTyping = event.target.id === "sentence";
  if (event.clipboardData.files.length || !isTyping) receive(event.clipboardData, "pasted");
});

function receive(data, how) {
  if (data.files.length) choose(data.files[0]);
  else show("captions", "", `A photograph was expected, but no file was ${how}. Save the photograph, and choose the file.`);
}

// --- the camera ---

find("camera").addEventListener("click", async () => {
  // Phones have a camera program; browsers allow the camera itself only on https and localhost.
  if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices) {
    return find("phone-camera").click();
  }
  const dialog = find("viewfinder");
  const video = dialog.querySelector("video");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 } } });
  } catch {
    return show("captions", "", "No camera was found, or the browser may not use it.");
  }
  video.srcObject = stream;
  video.play();
  dialog.returnValue = "";
  dialog.showModal();
  dialog.onclose = () => {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    if (dialog.returnValue && canvas.width) {
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob((blob) => choose(new File([blob], "camera.jpg", { type: blob.type })), "image/jpeg", 0.95);
    }
    stream.getTracks().forEach((track) => track.stop());
  };
});

// --- settings ---

find("settings").addEventListener("input", (event) => {
  const output = document.querySelector(`output[for="${event.target.id}"]`);
  if (output) output.value = event.target.value;
  find("sampling").hidden = !isSampling();
});
find("settings").addEventListener("change", caption);
find("again").addEventListener("click", () => {
  seed = (seed + 1) % 1000;
  caption();
});
for (const id of ["settings", "given"]) {
  find(id).addEventListener("submit", (event) => {
    event.preventDefault();
    if (id === "given") score();
  });
}
