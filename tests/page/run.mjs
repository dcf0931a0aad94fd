#!/usr/bin/env node
// Drives the bridge's page in headless Chromium: README.md says what is looked at.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';

const { values: option } = parseArgs({
  options: {
    chromium: { type: 'string' },
    bridge: { type: 'string' },
    guarded: { type: 'string' },
    screenshots: { type: 'string' },
    scenario: { type: 'string', multiple: true },
  },
});
const READ_TOKEN = process.env.PAGE_READ_TOKEN;

/** Where a game server can be reached. */
const ADDRESS = /\d+\.\d+\.\d+\.\d+:\d+/;

/** Longest wait for one thing: the demo's own match must be over first, and the machine may be busy. */
const PATIENCE = 60_000;

/** Sums of the loudness of decoded frames: a few of a test tone. A frame of the tone has about 0.17. */
const ENERGY_MIN = 5;

const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'bifrost-page-'));
fs.mkdirSync(option.screenshots, { recursive: true });
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: option.chromium,
  headless: true,
  viewport: { width: 1200, height: 900 },
  permissions: ['microphone'],
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream', '--autoplay-policy=no-user-gesture-required', '--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding', '--disable-dev-shm-usage'],
});
browser.setDefaultTimeout(PATIENCE);

/** What no page may say. */
const complaints = [];

async function open(url, { scheme = 'light', width = 1200, height = 900 } = {}) {
  const page = await browser.newPage();
  await page.setViewportSize({ width, height });
  await page.emulateMedia({ colorScheme: scheme });
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(`${url}: ${message.type()}: ${message.text()} ${message.location().url}`);
  });
  page.on('pageerror', (error) => complaints.push(`${url}: ${error.stack}`));
  const response = await page.goto(url);
  assert.equal(response.status(), 200);
  return page;
}

const picture = (page, name) => page.screenshot({ path: path.join(option.screenshots, `${name}.png`), fullPage: true });
const text = (page, selector) => page.locator(selector).textContent();

/** Waits until `look()` gives something true. */
async function until(what, look) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    assert.ok(Date.now() < end, `not within ${PATIENCE} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A page narrower than its content scrolls sideways; that is for tables alone. */
async function fits(page) {
  const { inner, scroll } = await page.evaluate(() => ({ inner: innerWidth, scroll: document.documentElement.scrollWidth }));
  assert.ok(scroll <= inner, `the page is ${scroll} pixels wide in a window of ${inner}`);
}

/** Whatever can be pressed has a name for those who do not see it. */
async function hasNames(page) {
  const nameless = await page.evaluate(() => [...document.querySelectorAll('button, a, input, select, meter, [role=region]')]
    .filter((element) => element.checkVisibility())
    .filter((element) => !(element.textContent.trim() && element.matches('button, a')) && !element.labels?.length && !element.ariaLabel && !element.getAttribute('aria-labelledby'))
    .map((element) => element.outerHTML));
  assert.deepEqual(nameless, []);
}

const allIdle = (page) => until('all servers are idle', async () => {
  const [total, idle] = await Promise.all([text(page, '#sum-total'), text(page, '#sum-idle')]);
  return Number(total) > 0 && total === idle ? Number(total) : 0;
});

const scenarios = {
  async parts() {
    const page = await open(`${option.bridge}/`);
    const seen = await page.evaluate(async () => {
      const [{ pack, unpack }, { Order }, { Parser }, { quantiles }] = await Promise.all(['msgpack', 'jitter', 'events', 'chart'].map((name) => import(`/web/${name}.js`)));
      const value = { text: 'ä'.repeat(40), small: 7, large: 70_000, huge: 4_000_000_000, negative: -1.5, list: Array(20).fill(true), none: null, bytes: new Uint8Array(300) };
      const broken = [[0xc1], [0x92, 1], [0xa5, 65], [1, 1], Array(40).fill(0x91)].map((bytes) => {
        try { unpack(Uint8Array.from(bytes)); return 'taken'; } catch { return 'refused'; }
      });
      const order = new Order();
      const ordered = [[5], [7], [6], [6], [9], [10], [11], [4]].flatMap(([number]) => order.push(number, number));
      const wrapping = new Order();
      const wrapped = [2 ** 32 - 1, 1, 0].flatMap((number) => wrapping.push(number, number));
      const parser = new Parser();
      const events = [...parser.feed('id: h.1\nevent: a\nda'), ...parser.feed('ta: {"x":1}\n\n:\n\nid: h.2\n\n')];
      const steps = (counts) => counts.map((count, at) => ({ within_seconds: [0.001, 0.002, null][at], count }));
      return { same: JSON.stringify(unpack(pack(value))) === JSON.stringify(value), broken, ordered, lost: order.lost, late: order.late, wrapped, events, quantiles: quantiles(steps([0, 0, 10]), steps([50, 100, 110])), none: quantiles(steps([1, 1, 1]), steps([1, 1, 1])) };
    });
    assert.ok(seen.same);
    assert.ok(seen.broken.every((word) => word === 'refused'), seen.broken.join());
    assert.deepEqual(seen.ordered, [5, 6, 7, 9, 10, 11]);
    assert.deepEqual([seen.lost, seen.late], [1, 2]);
    assert.deepEqual(seen.wrapped, [2 ** 32 - 1, 0, 1]);
    assert.deepEqual(seen.events.map((event) => [event.id, event.kind, event.data]), [['h.1', 'a', '{"x":1}'], [null, null, ''], ['h.2', null, '']]);
    assert.deepEqual(seen.quantiles.map((value) => Number(value.toFixed(2))), [1, 1.98]);
    assert.deepEqual(seen.none, [null, null]);
    await page.close();
  },

  async overview() {
    const page = await open(`${option.bridge}/`);
    const servers = await allIdle(page);
    await page.locator('#connection', { hasText: 'live' }).waitFor();
    assert.equal(await page.locator('#servers tr').count(), servers);
    const other = await open(`${option.bridge}/`, { scheme: 'dark' });
    await allIdle(other);
    await hasNames(page);

    // By the keyboard: the button is reached and pressed without a mouse.
    await page.locator('#start-city').selectOption('=limburg');
    await page.locator('#start-city').focus();
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    const occupied = other.locator('#servers tr', { has: other.locator('.badge.occupied') });
    await occupied.first().waitFor();
    const server = await occupied.first().getAttribute('data-server');
    assert.match(await occupied.first().textContent(), /Limburg/);
    const match = page.locator('#matches tr[data-state=running]');
    await match.first().waitFor();
    assert.match(await match.first().textContent(), new RegExp(`${server}, Limburg`));
    assert.ok(await page.locator('#timeline .step.running').count() >= 1);
    assert.equal(await text(other, '#sum-occupied'), '1');

    // A second one, so that there is something to look at; then both end, each in its own way.
    await page.locator('#start-city').selectOption('=singapore');
    await page.locator('#start-button').click();
    await until('two matches run', async () => (await match.count()) === 2);
    await until('both are in the table', async () => (await other.locator('#servers .badge.occupied').count()) === 2);
    await filters(other, servers);
    await picture(page, 'overview-light');
    await picture(other, 'overview-dark');

    await match.first().getByRole('button', { name: 'Finish' }).click();
    await page.locator('#matches tr[data-state=ended]', { hasText: 'finished' }).waitFor();
    await until('one match runs', async () => (await match.count()) === 1);
    await match.first().getByRole('button', { name: 'Release' }).press('Enter');
    await page.locator('#matches tr[data-state=ended]', { hasText: 'released' }).first().waitFor();
    assert.equal(await allIdle(other), servers);
    await other.locator('#matches tr[data-state=ended]', { hasText: 'released' }).first().waitFor();
    assert.ok(await page.locator('#log li').count() >= 6);
    await other.close();
    await page.close();
  },

  async voice() {
    const overview = await open(`${option.bridge}/`);
    await allIdle(overview);
    await overview.locator('#start-button').click();
    const link = overview.getByRole('link', { name: 'Join the voice' }).first();
    const room = new URL(await link.getAttribute('href'), option.bridge).href;
    const [first, second] = [await open(room), await open(room, { scheme: 'dark' })];
    await enter(first, 'ada', 'tone');
    await enter(second, 'grace', 'tone');
    await hears(first, 'grace');
    await hears(second, 'ada');
    await hasNames(first);
    await picture(first, 'room-light');
    await picture(second, 'room-dark');
    await first.setViewportSize({ width: 360, height: 740 });
    await fits(first);
    await picture(first, 'room-narrow');

    // Muted by its key, and silent for the other.
    await first.locator('#mute').focus();
    await first.keyboard.press('m');
    assert.equal(await first.locator('#mute').getAttribute('aria-pressed'), 'true');
    await second.locator('#peers li', { hasText: 'ada' }).filter({ hasText: 'silent' }).waitFor();
    const before = await energy(second, 'ada');
    await until('the other still hears', async () => (await energy(first, 'grace')) > before);
    assert.ok((await energy(second, 'ada')) - before < 0.5, 'who is muted is not heard');

    // The chart has seen the voice.
    const chart = overview.locator('#voice-nodes li').first();
    await until('packets in the chart', async () => /[1-9]\d* in, [1-9]\d* out/.test(await chart.textContent()));
    await until('a latency in the chart', async () => /\d+\.\d+ median/.test(await chart.textContent()));
    await until('a line of some length', async () => ((await chart.locator('path.first').first().getAttribute('d')) ?? '').split('L').length > 4);
    await picture(overview, 'voice-servers-light');
    await overview.emulateMedia({ colorScheme: 'dark' });
    await overview.setViewportSize({ width: 360, height: 740 });
    await until('a timeline as wide as the window', () => overview.evaluate(() => document.getElementById('timeline').viewBox.baseVal.width < 360));
    await picture(overview, 'overview-narrow-dark');
    await fits(overview);
  

    // A microphone: the browser's stand-in for one beeps.
    await first.keyboard.press('Escape');
    await second.locator('#peers li', { hasText: 'ada' }).waitFor({ state: 'detached' });
    await enter(first, 'linus', 'microphone');
    await until('the microphone is heard', async () => (await energy(second, 'linus')) > 0.5);

    // The end of the match is the end of its rooms.
    await overview.getByRole('button', { name: 'Release' }).first().click();
    await second.locator('#problem').filter({ hasText: 'room closing' }).waitFor();
    for (const page of [first, second, overview]) await page.close();
  },

  async guarded() {
    const page = await open(`${option.guarded}/`);
    const filled = () => until('servers', async () => (await page.locator('#servers tr').count()) > 0);
    await filled();
    assert.equal(await text(page, '#rights'), 'read only, without a token');
    assert.ok(await page.locator('#matches-section').isHidden());
    assert.doesNotMatch(await text(page, '#servers'), ADDRESS);
    const stopped = page.locator('#servers tr', { has: page.locator('td:last-child', { hasText: 'stopped' }) });
    assert.equal(await stopped.locator('.badge.down').first().textContent(), 'stopped', 'what a stopped server said last is not its state');
    await page.locator('#sign-in-again').click();
    await picture(page, 'sign-in-light');
    await page.locator('#token').fill('wrong');
    await page.keyboard.press('Enter');
    await page.locator('#sign-in-problem', { hasText: 'does not know' }).waitFor();
    assert.ok(await page.locator('#content').isHidden());
    await page.locator('#token').fill(READ_TOKEN);
    await page.keyboard.press('Enter');
    await page.locator('#rights', { hasText: /^read only$/ }).waitFor();
    await page.locator('#connection', { hasText: 'live' }).waitFor();
    await until('addresses', async () => ADDRESS.test(await text(page, '#servers')));
    assert.ok(await page.locator('#matches-section').isVisible());
    assert.ok(await page.locator('#start').isHidden());

    // A read token opens the room's page, but no match: it has the way with a token alone.
    await page.goto(`${option.guarded}/room`);
    await page.locator('#voice-token').waitFor();
    assert.ok(await page.locator('#by-match').isHidden());
    await page.locator('#sign-out').click();
    await page.locator('#token').waitFor();
    await page.locator('#token').fill('wrong');
    await page.keyboard.press('Enter');
    await page.locator('#sign-in-problem', { hasText: 'does not know' }).waitFor();
    await page.close();
  },
};

async function filters(page, servers) {
  await page.locator('#state-filter').selectOption('=occupied');
  await until('two rows', async () => (await page.locator('#servers tr').count()) === 2);
  await page.locator('#city-filter').selectOption('=limburg');
  await until('a row', async () => (await page.locator('#servers tr').count()) === 1);
  await page.getByRole('button', { name: 'Clear' }).click();
  await until('all rows', async () => (await page.locator('#servers tr').count()) === servers);
  await page.locator('#search').fill('singapore');
  await until('some rows', async () => rowsBetween(await page.locator('#servers tr').count(), servers));
  await page.locator('#search').fill('');
  await until('all rows again', async () => (await page.locator('#servers tr').count()) === servers);
}

const rowsBetween = (rows, all) => rows > 0 && rows < all;

async function enter(page, name, source) {
  await page.locator('#name').fill(name);
  await page.locator('#source').selectOption(source);
  await page.keyboard.press('Tab');
  await page.locator('#join-button').press('Enter');
  await until(`${name} is in the room`, async () => {
    assert.equal(await text(page, '#problem'), '');
    return page.locator('#inside').isVisible();
  });
}

const energy = async (page, name) => Number(await page.locator('#peers li', { hasText: name }).getAttribute('data-energy'));
const hears = (page, name) => until(`${name} is heard`, async () => (await energy(page, name)) > ENERGY_MIN);

let failed = 0;
for (const name of option.scenario ?? Object.keys(scenarios)) {
  const began = Date.now();
  complaints.length = 0;
  try {
    await scenarios[name]();
    assert.deepEqual(complaints, []);
    console.log(`PASS ${name} (${Date.now() - began} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${error.stack}`);
    for (const complaint of complaints) console.log(`     ${complaint}`);
    for (const [at, page] of browser.pages().entries()) {
      await picture(page, `failed-${name}-${at}`).catch(() => {});
      await page.close();
    }
    await browser.newPage();
  }
}
await browser.close();
fs.rmSync(profile, { recursive: true, force: true });
process.exit(failed ? 1 : 0);
