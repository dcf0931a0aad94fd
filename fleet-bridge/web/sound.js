// Sound in and out: what is recorded becomes Opus, and Opus becomes what is heard.
import { Order } from './jitter.js';

/** Opus knows this rate best, and everything here uses it. */
const RATE = 48_000;

/** Microseconds of a frame. */
const FRAME_US = 20_000;

/** Bits a second of one voice. */
const BITRATE = 32_000;

/** Frames that wait for the encoder at most; more are left out. */
const ENCODING_MAX = 10;

/** A talker whose packets the decoder refuses so often is not played any more. */
const REFUSED_MAX = 5;

/** Pitch of the test tone, in hertz, and how loud it is. */
const TONE = { frequency: 440, gain: 0.25 };

/** The sound of one page. Made by a click, because browsers ask for one. */
export class Sound {
  static async open() {
    if (!('AudioEncoder' in window) || !('AudioDecoder' in window)) throw new Error('This browser has no WebCodecs.');
    const sound = new Sound();
    sound.context = new AudioContext({ sampleRate: RATE, latencyHint: 'interactive' });
    await sound.context.resume();
    await sound.context.audioWorklet.addModule('/web/worklet.js');
    sound.volume = new GainNode(sound.context);
    sound.volume.connect(sound.context.destination);
    return sound;
  }

  /** Begins to record `microphone` or `tone`; `packet(opus)` and `level(rms)` take what comes of it. */
  async record(source, { packet, level }) {
    this.input = source === 'tone' ? this.#tone() : await this.#microphone();
    const capture = new AudioWorkletNode(this.context, 'capture', { channelCount: 1, channelCountMode: 'explicit' });
    const silence = new GainNode(this.context, { gain: 0 });
    this.input.connect(capture).connect(silence).connect(this.context.destination);
    this.encoder = new AudioEncoder({
      output: (chunk) => {
        const opus = new Uint8Array(chunk.byteLength);
        chunk.copyTo(opus);
        packet(opus);
      },
      error: () => level(0),
    });
    this.encoder.configure({ codec: 'opus', sampleRate: RATE, numberOfChannels: 1, bitrate: BITRATE, opus: { frameDuration: FRAME_US } });
    let timestamp = 0;
    capture.port.onmessage = ({ data }) => {
      level(this.muted ? 0 : energy(data));
      timestamp += FRAME_US;
      if (this.muted || this.encoder.state !== 'configured' || this.encoder.encodeQueueSize > ENCODING_MAX) return;
      const frame = new AudioData({ format: 'f32', sampleRate: RATE, numberOfFrames: data.length, numberOfChannels: 1, timestamp, data });
      this.encoder.encode(frame);
      frame.close();
    };
  }

  async #microphone() {
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } });
    return new MediaStreamAudioSourceNode(this.context, { mediaStream: this.stream });
  }

  #tone() {
    const oscillator = new OscillatorNode(this.context, { frequency: TONE.frequency });
    const gain = new GainNode(this.context, { gain: TONE.gain });
    oscillator.connect(gain);
    oscillator.start();
    return gain;
  }

  /** Somebody who talks: give it packets. `level(rms)` hears how loud each decoded frame is. */
  talker(level) {
    return new Talker(this, level);
  }

  close() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    if (this.encoder && this.encoder.state !== 'closed') this.encoder.close();
    this.context.close();
  }
}

class Talker {
  #order = new Order();
  #refused = 0;
  #timestamp = 0;
  #decoder = null;
  /** Packets that came. */
  packets = 0;

  constructor(sound, level) {
    this.level = level;
    this.player = new AudioWorkletNode(sound.context, 'playback', { numberOfInputs: 0, outputChannelCount: [1] });
    this.player.connect(sound.volume);
  }

  get lost() {
    return this.#order.lost;
  }

  push(sequence, opus) {
    this.packets += 1;
    for (const packet of this.#order.push(sequence, opus)) this.#decode(packet);
  }

  #decode(data) {
    if (this.#refused >= REFUSED_MAX) return;
    if (!this.#decoder || this.#decoder.state === 'closed') this.#decoder = this.#begin();
    this.#timestamp += FRAME_US;
    this.#decoder.decode(new EncodedAudioChunk({ type: 'key', timestamp: this.#timestamp, duration: FRAME_US, data }));
  }

  #begin() {
    const decoder = new AudioDecoder({
      output: (audio) => {
        const samples = new Float32Array(audio.numberOfFrames);
        audio.copyTo(samples, { planeIndex: 0, format: 'f32-planar' });
        audio.close();
        this.level(energy(samples));
        this.player.port.postMessage(samples, [samples.buffer]);
      },
      // The decoder is closed then; the next packet gets another one.
      error: () => { this.#refused += 1; },
    });
    decoder.configure({ codec: 'opus', sampleRate: RATE, numberOfChannels: 1 });
    return decoder;
  }

  close() {
    if (this.#decoder && this.#decoder.state !== 'closed') this.#decoder.close();
    this.player.port.postMessage(null);
    this.player.disconnect();
  }
}

/** How loud samples are: the root of the mean of their squares, 0 to 1. */
function energy(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return Math.sqrt(sum / Math.max(1, samples.length));
}
