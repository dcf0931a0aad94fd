// A Nakama runtime module: when the matchmaker has matched players, a Bifrost bridge gives them a game server of their
// own with the match running on it, and each player is notified with its address and a voice token.
//
// Nakama finds hooks by their names, so each stays a function of its own at the top level.

// Codes of the notifications that players get; Nakama keeps those from 0 down to itself.
var BIFROST_MATCH = 7001;
var BIFROST_NO_MATCH = 7002;

// How long the bridge may look for a server where BIFROST_DEADLINE_MS is not set. Nakama waits meanwhile.
var BIFROST_DEADLINE_MS_DEFAULT = 5000;

// What a call may take beyond the deadline, so that the bridge's own word arrives.
var BIFROST_GRACE_MS = 5000;

// How often a match is asked for, under one key: an answer that was lost is given again.
var BIFROST_ATTEMPTS = 2;

function InitModule(ctx, logger, nk, initializer) {
  var settings = bifrostSettings(ctx.env);
  initializer.registerMatchmakerMatched(bifrostMatchmakerMatched);
  logger.info('bifrost: matches come from the bridge at %s', settings.url);
}

// Returns nothing: the players also get Nakama's own word of the match, which the notification belongs to.
function bifrostMatchmakerMatched(ctx, logger, nk, matches) {
  var settings = bifrostSettings(ctx.env);
  var request = bifrostMatchRequest(settings, matches);
  var made;
  try {
    made = bifrostMakeMatch(settings, logger, nk, request);
  } catch (problem) {
    if (problem.kind === 'exhausted') {
      // More players than servers is no fault of anything.
      logger.warn('bifrost: no match for %d players: %s', request.players.length, bifrostWords(problem));
    } else {
      logger.error('bifrost: no match for %d players: %s', request.players.length, bifrostWords(problem));
    }
    bifrostNotify(logger, nk, request.players.map(function (player) {
      return bifrostNotification(player.user_id, 'bifrost.no_match', BIFROST_NO_MATCH, { kind: problem.kind || 'internal' });
    }));
    return;
  }
  var told = bifrostNotify(logger, nk, made.players.map(function (player) {
    return bifrostNotification(player.user_id, 'bifrost.match', BIFROST_MATCH, {
      match_id: made.id,
      instance: made.instance,
      expires_at: made.expires_at,
      session_id: player.session_id,
      team: player.team,
      voice: player.voice,
    });
  }));
  if (told) {
    logger.info('bifrost: match %s for %d players', made.id, made.players.length);
  } else {
    bifrostEndMatch(settings, logger, nk, made.id);
  }
}

// Reads ctx.env; a setting that is missing or wrong stops Nakama from starting.
function bifrostSettings(env) {
  env = env || {};
  function fail(name, words) {
    throw new Error('bifrost: ' + name + ' ' + words);
  }
  function json(name, is, words) {
    var text = (env[name] || '').trim();
    if (text === '') return undefined;
    var value;
    try {
      value = JSON.parse(text);
    } catch (error) {
      fail(name, 'is not JSON');
    }
    if (!is(value)) fail(name, words);
    return value;
  }
  function positive(name, otherwise) {
    var text = (env[name] || '').trim();
    if (text === '') return otherwise;
    if (!/^[1-9][0-9]{0,8}$/.test(text)) fail(name, 'must be a whole number from 1');
    return Number(text);
  }
  var url = (env.BIFROST_BRIDGE_URL || '').trim().replace(/\/+$/, '');
  if (url === '') fail('BIFROST_BRIDGE_URL', "is missing in Nakama's runtime.env: set it to the address of the bridge");
  if (!/^https?:\/\/[^\/?#@]+(\/[^?#@]*)?$/.test(url)) fail('BIFROST_BRIDGE_URL', 'must look like http://127.0.0.1:8090');
  var token = (env.BIFROST_BRIDGE_TOKEN || '').trim();
  if (token === '') fail('BIFROST_BRIDGE_TOKEN', "is missing in Nakama's runtime.env: set it to a token of the bridge with the scope write");
  var voice = {};
  (env.BIFROST_VOICE || '').split(',').forEach(function (name) {
    name = name.trim();
    if (name === '') return;
    if (['match', 'teams', 'proximity'].indexOf(name) < 0) fail('BIFROST_VOICE', 'must be a list of match, teams and proximity');
    voice[name] = true;
  });
  function isObject(value) {
    return value !== null && typeof value === 'object' && !Array.isArray(value);
  }
  return {
    url: url,
    token: token,
    voice: Object.keys(voice).length > 0 ? voice : undefined,
    deadlineMs: positive('BIFROST_DEADLINE_MS', BIFROST_DEADLINE_MS_DEFAULT),
    leaseSeconds: positive('BIFROST_LEASE_SECONDS', undefined),
    maxPlayers: positive('BIFROST_MAX_PLAYERS', undefined),
    match: json('BIFROST_MATCH_SETTINGS', isObject, 'must be a JSON object'),
    selectors: json('BIFROST_SELECTORS', Array.isArray, 'must be a JSON array of selectors'),
  };
}

// What the bridge is asked for. The matchmaker's string property "team" is the player's team, and a numeric property
// "latency_REGION" what the player has measured to a region, in milliseconds. A user who was matched twice plays once.
function bifrostMatchRequest(settings, matches) {
  var seen = {};
  var players = [];
  matches.forEach(function (match) {
    var id = match.presence.userId;
    if (seen[id]) return;
    seen[id] = true;
    var properties = match.properties || {};
    var player = { user_id: id };
    if (typeof properties.team === 'string' && properties.team !== '') player.team = properties.team;
    var latencies = Object.keys(properties).filter(function (name) {
      return name.indexOf('latency_') === 0 && typeof properties[name] === 'number' && properties[name] >= 0;
    });
    if (latencies.length > 0) {
      player.latencies = latencies.map(function (name) {
        return { region: name.slice('latency_'.length), ms: properties[name] };
      });
    }
    players.push(player);
  });
  return {
    players: players,
    deadline_ms: settings.deadlineMs,
    lease_seconds: settings.leaseSeconds,
    max_players: settings.maxPlayers === undefined ? undefined : Math.max(settings.maxPlayers, players.length),
    settings: settings.match,
    selectors: settings.selectors,
    voice: settings.voice,
  };
}

// Returns the running match, or throws {kind, detail, request_id} as the bridge said it.
function bifrostMakeMatch(settings, logger, nk, request) {
  var key = nk.uuidv4();
  var body = JSON.stringify(request);
  for (var attempt = 1; ; attempt++) {
    var problem;
    try {
      return bifrostCall(settings, nk, 'post', '/v1/matches', body, key);
    } catch (error) {
      problem = error;
    }
    if (!problem.mayPass || attempt >= BIFROST_ATTEMPTS) {
      // When nobody heard an answer, a match may run that nobody will be sent to; its lease ends it.
      throw problem;
    }
    logger.warn('bifrost: asking again: %s', bifrostWords(problem));
  }
}

// A match that its players were not told of would hold its server for nothing.
function bifrostEndMatch(settings, logger, nk, id) {
  try {
    bifrostCall(settings, nk, 'delete', '/v1/matches/' + encodeURIComponent(id), '', '');
    logger.warn('bifrost: match %s is ended: its players could not be told', id);
  } catch (problem) {
    logger.error('bifrost: match %s cannot be ended, its lease will end it: %s', id, bifrostWords(problem));
  }
}

// One call of the bridge. What it throws has a kind, and mayPass where the same call may succeed a little later.
function bifrostCall(settings, nk, method, path, body, key) {
  var headers = { Accept: 'application/json', Authorization: 'Bearer ' + settings.token };
  if (body !== '') headers['Content-Type'] = 'application/json';
  if (key !== '') headers['Idempotency-Key'] = key;
  var answer;
  try {
    answer = nk.httpRequest(settings.url + path, method, headers, body, settings.deadlineMs + BIFROST_GRACE_MS);
  } catch (error) {
    throw { kind: 'unavailable', detail: 'the bridge does not answer: ' + String(error && error.message ? error.message : error), mayPass: true };
  }
  var value = null;
  try {
    value = JSON.parse(answer.body);
  } catch (error) {
    // Said below: what is not JSON is not the bridge's.
  }
  if (answer.code >= 200 && answer.code <= 299 && value !== null) return value;
  if (value === null || typeof value.kind !== 'string') {
    throw { kind: 'bad_response', detail: 'status ' + answer.code + ', and no problem of the bridge', mayPass: answer.code >= 500 };
  }
  // The bridge has looked for a server as long as it was told to: looking again is the players' decision.
  value.mayPass = [429, 502, 503, 504].indexOf(answer.code) >= 0 && ['exhausted', 'unauthenticated', 'permission_denied'].indexOf(value.kind) < 0;
  throw value;
}

function bifrostNotification(userId, subject, code, content) {
  // Nobody needs the address of a match that is over, and a voice token is not for keeping.
  return { userId: userId, subject: subject, code: code, content: content, persistent: false };
}

// Says whether the players could be told.
function bifrostNotify(logger, nk, notifications) {
  try {
    nk.notificationsSend(notifications);
    return true;
  } catch (error) {
    logger.error('bifrost: players cannot be notified: %s', String(error && error.message ? error.message : error));
    return false;
  }
}

function bifrostWords(problem) {
  if (!problem.kind) return String(problem && problem.message ? problem.message : problem);
  return problem.kind + ': ' + problem.detail + (problem.request_id ? ' (request ' + problem.request_id + ')' : '');
}
