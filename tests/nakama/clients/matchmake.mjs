// Two real Nakama clients ask the matchmaker for a match, and print what they are notified of:
// {"notifications": [{"userId", "subject", "code", "content"}, …]}.
//
// node matchmake.mjs HOST PORT SERVER_KEY
import { Client } from '@heroiclabs/nakama-js';
import WebSocket from 'ws';

// Longer than the matchmaker's interval and the bridge's deadline together.
const WAIT_MAX_MS = 45_000;
const SUBJECTS = ['bifrost.match', 'bifrost.no_match'];

globalThis.WebSocket ??= WebSocket;

const [host, port, serverKey] = process.argv.slice(2);

async function player(name, team, run) {
  const client = new Client(serverKey, host, port, false);
  const session = await client.authenticateCustom(`bifrost-${run}-${name}`, true);
  const socket = client.createSocket(false, false);
  const told = new Promise((resolve) => {
    socket.onnotification = ({ subject, code, content }) => {
      if (SUBJECTS.includes(subject)) resolve({ userId: session.user_id, subject, code, content });
    };
  });
  await socket.connect(session, false);
  // The query keeps players of other runs out.
  await socket.addMatchmaker(`+properties.run:${run}`, 2, 2, { team, run });
  return { told, leave: () => socket.disconnect(false) };
}

const timer = setTimeout(() => {
  console.error('the players were not notified');
  process.exit(1);
}, WAIT_MAX_MS);
const run = `r${process.pid}x${Date.now()}`;
const players = await Promise.all([player('one', 'red', run), player('other', 'blue', run)]);
const notifications = await Promise.all(players.map(({ told }) => told));
clearTimeout(timer);
console.log(JSON.stringify({ notifications }));
players.forEach(({ leave }) => leave());
