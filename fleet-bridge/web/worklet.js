// Runs where sound is made: cuts what is recorded into frames, and plays what was decoded.

/** Samples of a frame: 20 ms at 48 kHz. */
const FRAME = 960;

/** Playing begins, and begins anew after a gap, when so much is there: 60 ms. */
const BEGIN_AT = 3 * FRAME;

/** More than this is never kept: 240 ms. The oldest goes first. */
const KEPT_MAX = 12 * FRAME;

class Capture extends AudioWorkletProcessor {
  #frame = new Float32Array(FRAME);
  #filled = 0;

  process([input]) {
    const samples = input[0];
    if (!samples) return true;
    for (const sample of samples) {
      this.#frame[this.#filled] = sample;
      this.#filled += 1;
      if (this.#filled === FRAME) {
        this.port.postMessage(this.#frame, [this.#frame.buffer]);
        this.#frame = new Float32Array(FRAME);
        this.#filled = 0;
      }
    }
    return true;
  }
}

class Playback extends AudioWorkletProcessor {
  #ring = new Float32Array(KEPT_MAX);
  #from = 0;
  #kept = 0;
  #isPlaying = false;
  #isOver = false;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => {
      if (data === null) this.#isOver = true;
      else this.#take(data);
    };
  }

  #take(samples) {
    for (const sample of samples) {
      if (this.#kept === KEPT_MAX) {
        this.#from = (this.#from + 1) % KEPT_MAX;
        this.#kept -= 1;
      }
      this.#ring[(this.#from + this.#kept) % KEPT_MAX] = sample;
      this.#kept += 1;
    }
  }

  process(_, [output]) {
    const samples = output[0];
    if (!this.#isPlaying && this.#kept >= BEGIN_AT) this.#isPlaying = true;
    for (let at = 0; at < samples.length; at += 1) {
      if (!this.#isPlaying || this.#kept === 0) {
        this.#isPlaying = false;
        samples[at] = 0;
        continue;
      }
      samples[at] = this.#ring[this.#from];
      this.#from = (this.#from + 1) % KEPT_MAX;
      this.#kept -= 1;
    }
    return !this.#isOver;
  }
}

registerProcessor('capture', Capture);
registerProcessor('playback', Playback);
