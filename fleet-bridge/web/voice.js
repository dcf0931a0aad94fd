// A client of the voice server over WebTransport: docs/webtransport.md is what it speaks.
import { pack, unpack } from './msgpack.js';

/** Largest frame of a server, in bytes. */
const FRAME_BYTES_MAX = 16 * 1024 * 1024;

/** Everything that entering a room takes must be done within this time. */
const ENTER_MAX_MS = 10_000;

/** Ticks of a voice packet's clock in 20 ms. */
const TICKS = 1_800;

/** A stream of frames: four bytes of length, then so many bytes. */
class Frames {
  #buffer = new Uint8Array();
  #calls = new Map();
  #id = 0;

  static async open(session) {
    const frames = new Frames();
    const { readable, writable } = await session.createBidirectionalStream();
    frames.reader = readable.getReader();
    frames.writer = writable.getWriter();
    return frames;
  }

  write(frame) {
    const whole = new Uint8Array(4 + frame.length);
    new DataView(whole.buffer).setUint32(0, frame.length);
    whole.set(frame, 4);
    return this.writer.write(whole);
  }

  /** Calls a method, and gives its result or throws what the server refuses. */
  call(method, params) {
    this.#id += 1;
    const id = this.#id;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.write(pack([0, id, method, params])).catch(reject);
    });
  }

  /** Reads until the stream ends: answers go to their calls, the rest to `told(method, params)`. */
  async run(told) {
    try {
      for (let frame = await this.#frame(); frame; frame = await this.#frame()) {
        const [kind, ...rest] = unpack(frame);
        if (kind === 2) told(rest[0], rest[1]);
        else if (kind === 1) this.#answer(...rest);
      }
    } finally {
      for (const call of this.#calls.values()) call.reject(new Error('The voice server has ended the stream.'));
      this.#calls.clear();
    }
  }

  #answer(id, error, result) {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    if (error === null) call?.resolve(result);
    else call?.reject(new Error(String(error)));
  }

  async #frame() {
    for (;;) {
      if (this.#buffer.length >= 4) {
        const length = new DataView(this.#buffer.buffer, this.#buffer.byteOffset).getUint32(0);
        if (length > FRAME_BYTES_MAX) throw new Error('a frame is too large');
        if (this.#buffer.length >= 4 + length) {
          const frame = this.#buffer.slice(4, 4 + length);
          this.#buffer = this.#buffer.subarray(4 + length);
          return frame;
        }
      }
      const { value, done } = await this.reader.read();
      if (done) return null;
      const joined = new Uint8Array(this.#buffer.length + value.length);
      joined.set(this.#buffer);
      joined.set(value, this.#buffer.length);
      this.#buffer = joined;
    }
  }
}

/**
 * A client in a room. `heard(media, sequence, opus)` takes voice, `peer(id, name, medias)` somebody who is there,
 * `left(id)` somebody who is gone, `medias(peer, started, stopped)` what somebody talks with, `ended(why)` the end.
 */
export class Room {
  #sequence = 0;
  #ended = false;

  static async enter({ address, certificate, token, room, name }, told) {
    if (!('WebTransport' in window)) throw new Error('This browser has no WebTransport.');
    const options = certificate ? { serverCertificateHashes: [{ algorithm: 'sha-256', value: bytes(certificate) }] } : {};
    const entered = new Room();
    entered.told = told;
    entered.session = new WebTransport(`https://${address.replace(/^https:\/\//, '')}/main`, options);
    entered.session.closed.then(
      ({ reason }) => entered.#end(reason || 'The voice server has closed the connection.'),
      () => entered.#end('The connection to the voice server is lost.'));
    try {
      await inTime(entered.#enter(token, room, name), ENTER_MAX_MS);
    } catch (error) {
      entered.#ended = true;
      entered.#close();
      throw error;
    }
    return entered;
  }

  async #enter(token, room, name) {
    await this.session.ready.catch(() => { throw new Error('The voice server cannot be reached, or its certificate is not trusted.'); });
    const main = await Frames.open(this.session);
    main.run(() => {}).catch(() => {});
    await main.call('Authenticate', { token });
    const user = new TextEncoder().encode(name);
    const { stream_id } = await main.call('JoinRoom', { room_id: room, user_data: user, position: [0, 0, 0] });
    this.stream = await Frames.open(this.session);
    await this.stream.write(new TextEncoder().encode(stream_id));
    const { own_peer_id, media_ids } = await new Promise((resolve, reject) => {
      const run = this.stream.run((method, params) => {
        for (const update of params.updates ?? [params]) {
          if (update.kind === 'Joined') resolve(update);
          this.#take(method, update);
        }
      });
      run.then(() => this.#end('You are out of the room.'), () => this.#end('The stream of the room broke.')).then(reject);
    });
    this.own = own_peer_id;
    this.media = media_ids[0];
    await this.stream.call('StartMedia', { media_id: this.media, properties: {} });
    this.writer = this.session.datagrams.writable.getWriter();
    this.#listen().catch(() => {});
  }

  #take(method, update) {
    if (update.kind === 'Joined') update.room.peers.filter((peer) => peer.id !== update.own_peer_id).forEach((peer) => this.#peer(peer));
    else if (update.kind === 'PeerJoined') this.#peer(update.peer);
    else if (update.kind === 'PeerLeft') this.told.left(update.peer_id);
    else if (update.kind === 'Left') this.#end(`The voice server says: ${String(update.reason).replaceAll('_', ' ')}.`);
    else if (method === 'PeerUpdated' && update.kind === 'MediaStarted') this.told.medias(update.peer_id, [update.media.id], []);
    else if (method === 'PeerUpdated' && update.kind === 'MediaStopped') this.told.medias(update.peer_id, [], [update.media_id]);
  }

  #peer(peer) {
    const name = new TextDecoder().decode(peer.user_data) || peer.user_id;
    this.told.peer(peer.id, name, peer.medias.map((media) => media.id));
  }

  async #listen() {
    const reader = this.session.datagrams.readable.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      let packet;
      try {
        packet = unpack(value);
      } catch {
        continue;
      }
      const [, medias, sequence] = packet;
      const opus = packet.at(-1);
      if (Array.isArray(medias) && opus instanceof Uint8Array) for (const media of medias) this.told.heard(media, sequence, opus);
    }
  }

  /** Sends 20 ms of voice. A packet that cannot go is not missed by anybody for long. */
  talk(opus) {
    const packet = pack([1, [this.media], this.#sequence, (this.#sequence * TICKS) % 2 ** 32, 0, opus]);
    this.#sequence = (this.#sequence + 1) % 2 ** 32;
    this.writer.write(packet).catch(() => {});
  }

  /** Packets sent so far. */
  get sent() {
    return this.#sequence;
  }

  leave() {
    this.#ended = true;
    this.#close();
  }

  #close() {
    try {
      this.session.close({ closeCode: 0, reason: 'left' });
    } catch {
      // It never was open.
    }
  }

  #end(why) {
    if (this.#ended) return;
    this.#ended = true;
    this.told.ended(why);
    this.#close();
  }
}

function bytes(hexadecimal) {
  return Uint8Array.from(hexadecimal.match(/../g), (pair) => parseInt(pair, 16));
}

function inTime(work, milliseconds) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('The voice server does not answer.')), milliseconds);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
