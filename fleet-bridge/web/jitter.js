// Puts the packets of a talker back into order before they are decoded. Knows no time: a packet that is missing is waited
// for until some newer ones are there, which at 20 ms each is a time, too.

/** A packet that is missing is given up when so many newer ones wait. */
const WAITING_MAX = 3;

/** A stream whose numbers jump farther than this has begun anew. */
const JUMP_MAX = 200;

const WRAP = 2 ** 32;

export class Order {
  #next = null;
  #waiting = new Map();
  /** Packets that were given up. */
  lost = 0;
  /** Packets that came after they had been given up, or twice. */
  late = 0;

  /** Takes a packet; gives those that are to be decoded now, in order. */
  push(sequence, packet) {
    if (this.#next === null) this.#next = sequence;
    const ahead = difference(sequence, this.#next);
    if (Math.abs(ahead) > JUMP_MAX) {
      this.#waiting.clear();
      this.#next = sequence;
    } else if (ahead < 0 || this.#waiting.has(sequence)) {
      this.late += 1;
      return [];
    }
    this.#waiting.set(sequence, packet);
    const ready = this.#inOrder();
    if (this.#waiting.size < WAITING_MAX) return ready;
    const steps = [...this.#waiting.keys()].map((waiting) => difference(waiting, this.#next));
    const gap = Math.min(...steps);
    this.lost += gap;
    this.#next = (this.#next + gap) % WRAP;
    return ready.concat(this.#inOrder());
  }

  #inOrder() {
    const ready = [];
    while (this.#waiting.has(this.#next)) {
      ready.push(this.#waiting.get(this.#next));
      this.#waiting.delete(this.#next);
      this.#next = (this.#next + 1) % WRAP;
    }
    return ready;
  }
}

/** How far ahead `a` is of `b`, where numbers wrap at 32 bits. */
function difference(a, b) {
  return (a - b) | 0;
}
