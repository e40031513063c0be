// Classifies the images of the file `images` with model.wasm, and writes `answers` as harness.c does.
const fs = require("fs");
const { exports: model } = new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync(process.argv[2])));
const [size, classes] = process.argv.slice(3).map(Number);
const images = fs.readFileSync("images");
const at = model.model_image();
const answers = [];
for (let first = 0; first + size <= images.length; first += size) {
  new Uint8Array(model.memory.buffer, at, size).set(images.subarray(first, first + size));
  const label = model.model_predict(at);
  answers.push(Buffer.from(new Int32Array([label, 0, 0]).buffer));
  answers.push(Buffer.from(model.memory.buffer.slice(model.model_scores(), model.model_scores() + 4 * classes)));
}
fs.writeFileSync("answers", Buffer.concat(answers));
