package fleet

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/heroiclabs/nakama-common/runtime"
)

const (
	createCall = "POST /v1/instances"
	lookCall   = "GET /v1/operations/m-1"
	cancelCall = "DELETE /v1/operations/m-1"
	readCall   = "GET /v1/instances/101"

	pending   = `{"id":"m-1","kind":"create_instance","state":"pending","created_at":"2026-11-20T10:00:00Z","sessions":[]}`
	succeeded = `{"id":"m-1","kind":"create_instance","state":"succeeded","created_at":"2026-11-20T10:00:00Z","sessions":[{"user_id":"u","session_id":"s"}],
		"instance":{"id":"101","connection_info":{"ip_address":"203.0.113.7","dns_name":"","port":31001}},"match":{"expires_at":"2026-11-20T11:00:00Z","players":[{"user_id":"u"}]}}`
	withVoice = `{"id":"m-1","kind":"create_instance","state":"succeeded","created_at":"2026-11-20T10:00:00Z","sessions":[{"user_id":"u","session_id":"s"}],
		"instance":{"id":"101","connection_info":{"ip_address":"203.0.113.7","dns_name":"","port":31001}},"match":{"expires_at":"2026-11-20T11:00:00Z","players":[{"user_id":"u","voice":{"token":"t"}}]}}`
)

func failed(kind string) string {
	return `{"id":"m-1","kind":"create_instance","state":"failed","created_at":"2026-11-20T10:00:00Z","sessions":[],"error":{"kind":"` + kind + `","detail":"in words"}}`
}

func problemOf(kind string) string { return `{"kind":"` + kind + `","detail":"in words"}` }

// ground is a fleet manager whose pauses take no time, registered with callbacks that are counted.
type ground struct {
	*fleetManager
	bridge  *scripted
	handler *callbacks
	told    chan invoked
}

func newGround(t *testing.T, answers map[string][]answer) *ground {
	bridge := newBridge(t, answers)
	made := &ground{newFleetManager(silent{}, bridge.settings()), bridge, &callbacks{}, make(chan invoked, 10)}
	made.wait = func(ctx context.Context, attempt int) error { return ctx.Err() }
	if err := made.Init(nil, made.handler); err != nil {
		t.Fatal(err)
	}
	return made
}

func (g *ground) create(users ...string) (map[string]string, error) {
	near := []runtime.FleetUserLatencies{{UserId: "u", LatencyInMilliseconds: 12.5, RegionIdentifier: "europe"}}
	return toldAtOnce{g.fleetManager}.Create(context.Background(), 4, users, near, map[string]any{"mode": "duel"}, func(status runtime.FmCreateStatus, instance *runtime.InstanceInfo, sessions []*runtime.SessionInfo, metadata map[string]any, err error) {
		g.told <- invoked{status, instance, sessions, metadata, err}
	})
}

// end waits for the callback and holds that it is the only one.
func (g *ground) end(t *testing.T) invoked {
	t.Helper()
	select {
	case told := <-g.told:
		// The place is given back after the callback.
		for len(g.pending) > 0 {
			time.Sleep(time.Millisecond)
		}
		if count := g.handler.count["callback-1"]; count != 1 || len(g.told) != 0 {
			t.Fatalf("%d callbacks", count)
		}
		return told
	case <-time.After(10 * time.Second):
		t.Fatal("no callback")
		return invoked{}
	}
}

func TestCreateTellsOfANewInstanceOnce(t *testing.T) {
	g := newGround(t, map[string][]answer{
		createCall: {{202, pending}}, lookCall: {{200, pending}, {503, problemOf("unavailable")}, {0, ""}, {200, succeeded}}, readCall: {{200, instance101}},
	})
	begun, err := g.create("u")
	if err != nil || begun["operation_id"] != "m-1" {
		t.Fatalf("%v, %v", begun, err)
	}
	told := g.end(t)
	if told.status != runtime.CreateSuccess || told.err != nil || told.instance.PlayerCount != 3 {
		t.Errorf("%+v", told)
	}
	if len(told.sessions) != 1 || *told.sessions[0] != (runtime.SessionInfo{UserId: "u", SessionId: "s"}) {
		t.Errorf("%+v", told.sessions)
	}
	if told.metadata["match_id"] != "m-1" || told.metadata["expires_at"] != "2026-11-20T11:00:00Z" {
		t.Errorf("%v", told.metadata)
	}
	call := g.bridge.asked()[0]
	want := map[string]any{
		"max_players": 4.0, "user_ids": []any{"u"}, "metadata": map[string]any{"mode": "duel"},
		"latencies": []any{map[string]any{"user_id": "u", "latency_in_milliseconds": 12.5, "region_identifier": "europe"}},
	}
	if call.key != "callback-1" || !reflect.DeepEqual(call.body, want) {
		t.Errorf("%s, %v", call.key, call.body)
	}
}

func TestCreateIsTheSameInTheShapeBeforeOperationIDs(t *testing.T) {
	g := newGround(t, map[string][]answer{createCall: {{202, pending}, {501, problemOf("unimplemented")}}, lookCall: {{200, succeeded}}, readCall: {{200, instance101}}})
	create := func() error {
		return toldLater{g.fleetManager}.Create(context.Background(), 4, []string{"u"}, nil, nil, func(status runtime.FmCreateStatus, instance *runtime.InstanceInfo, sessions []*runtime.SessionInfo, metadata map[string]any, err error) {
			g.told <- invoked{status, instance, sessions, metadata, err}
		})
	}
	if err := create(); err != nil {
		t.Fatal(err)
	}
	if told := g.end(t); told.status != runtime.CreateSuccess || told.instance.Id != "101" || len(told.sessions) != 1 {
		t.Errorf("%+v", told)
	}
	if err := create(); err == nil || !strings.HasPrefix(err.Error(), "unimplemented: ") {
		t.Errorf("%v", err)
	}
}

func TestCreateWithoutUsersHasNoSessionsAndAnInstanceThatCannotBeReadIsStillTold(t *testing.T) {
	g := newGround(t, map[string][]answer{createCall: {{202, pending}}, lookCall: {{200, succeeded}}, readCall: {{503, problemOf("unavailable")}}})
	if _, err := g.create(); err != nil {
		t.Fatal(err)
	}
	told := g.end(t)
	if told.status != runtime.CreateSuccess || told.sessions != nil || told.instance.Id != "101" || told.instance.ConnectionInfo.Port != 31001 {
		t.Errorf("%+v", told)
	}
}

func TestCreateHandsOutVoice(t *testing.T) {
	g := newGround(t, map[string][]answer{createCall: {{202, pending}, {202, withVoice}}, lookCall: {{200, succeeded}}, readCall: {{200, instance101}}})
	g.settings.Voice = &VoiceWish{Match: true}
	if _, err := g.create("u"); err != nil {
		t.Fatal(err)
	}
	told := g.end(t)
	players := told.metadata["players"].([]map[string]any)
	if !reflect.DeepEqual(players[0]["voice"], map[string]any{"token": "t"}) {
		t.Errorf("%v", players)
	}
	if voice := g.bridge.asked()[0].body["voice"]; !reflect.DeepEqual(voice, map[string]any{"match": true}) {
		t.Errorf("%v", voice)
	}
}

func TestCreateTellsWhyThereIsNoInstance(t *testing.T) {
	cases := []struct {
		look   answer
		status runtime.FmCreateStatus
		text   string
	}{
		{answer{200, failed("exhausted")}, runtime.CreateTimeout, "exhausted: in words"},
		{answer{200, failed("start_rejected")}, runtime.CreateError, "start_rejected: in words"},
		{answer{200, strings.Replace(pending, "pending", "cancelled", 1)}, runtime.CreateError, "cancelled: the operation was cancelled"},
		{answer{200, strings.Replace(pending, "pending", "odd", 1)}, runtime.CreateError, "bad_response: the operation ended as odd"},
		{answer{404, problemOf("not_found")}, runtime.CreateError, "not_found: in words"},
	}
	for _, one := range cases {
		g := newGround(t, map[string][]answer{createCall: {{202, pending}}, lookCall: {one.look}})
		if _, err := g.create("u"); err != nil {
			t.Fatal(err)
		}
		told := g.end(t)
		if told.status != one.status || told.err == nil || told.err.Error() != one.text || told.instance != nil || told.sessions != nil || told.metadata != nil {
			t.Errorf("%v: %+v", one.look, told)
		}
	}
}

func TestACreateThatIsRefusedIsAnErrorAndHasNoCallback(t *testing.T) {
	g := newGround(t, map[string][]answer{createCall: {{501, problemOf("unimplemented")}}})
	_, err := g.create("u")
	var told *runtime.Error
	if !errors.As(err, &told) || told.Code != codeUnimplemented {
		t.Fatalf("%v", err)
	}
	if len(g.pending) != 0 || len(g.handler.kept) != 0 {
		t.Error("something has begun")
	}
	for len(g.pending) < cap(g.pending) {
		g.pending <- struct{}{}
	}
	if _, err := g.create("u"); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("too many: %v", err)
	}
}

func TestABridgeThatCannotBeReachedIsAskedAgainUnderTheSameKey(t *testing.T) {
	g := newGround(t, map[string][]answer{createCall: {{0, ""}, {503, problemOf("unavailable")}, {202, pending}}, lookCall: {{200, succeeded}}, readCall: {{200, instance101}}})
	if begun, err := g.create("u"); err != nil || len(begun) != 0 {
		t.Fatalf("%v, %v", begun, err)
	}
	if told := g.end(t); told.status != runtime.CreateSuccess {
		t.Errorf("%+v", told)
	}
	for _, call := range g.bridge.asked() {
		if call.method == "POST" && call.key != "callback-1" {
			t.Errorf("another key: %q", call.key)
		}
	}
}

func TestACreateThatTakesTooLongIsCancelled(t *testing.T) {
	g := newGround(t, map[string][]answer{createCall: {{202, pending}}, lookCall: {{200, pending}}, cancelCall: {{503, problemOf("unavailable")}, {200, failed("x")}}})
	g.settings.CreateTimeout = 50 * time.Millisecond
	if _, err := g.create("u"); err != nil {
		t.Fatal(err)
	}
	if told := g.end(t); told.status != runtime.CreateTimeout || !strings.HasPrefix(told.err.Error(), "exhausted: ") {
		t.Errorf("%+v", told)
	}
	calls := g.bridge.asked()
	if last := calls[len(calls)-1]; last.method != "DELETE" {
		t.Errorf("the last call is %s %s", last.method, last.path)
	}
}

func TestACreateThatEndsWhileItIsCancelledCounts(t *testing.T) {
	g := newGround(t, map[string][]answer{createCall: {{202, pending}}, cancelCall: {{409, problemOf("not_pending")}}, lookCall: {{200, succeeded}}, readCall: {{200, instance101}}})
	g.settings.CreateTimeout = time.Nanosecond
	if _, err := g.create("u"); err != nil {
		t.Fatal(err)
	}
	if told := g.end(t); told.status != runtime.CreateSuccess {
		t.Errorf("%+v", told)
	}
}

func TestACreateThatNobodyAnsweredIsFoundAndCancelled(t *testing.T) {
	g := newGround(t, map[string][]answer{createCall: {{0, ""}, {0, ""}, {202, pending}}, cancelCall: {{200, pending}}})
	g.settings.CreateTimeout = time.Nanosecond
	if _, err := g.create("u"); err != nil {
		t.Fatal(err)
	}
	if told := g.end(t); told.status != runtime.CreateTimeout {
		t.Errorf("%+v", told)
	}
}
