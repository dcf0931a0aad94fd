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

const instance101 = `{"id":"101","connection_info":{"ip_address":"203.0.113.7","dns_name":"","port":31001},"create_time":"2026-11-20T10:00:00Z","player_count":3,"status":"running","metadata":{"instance_state":"idle"}}`

func TestEachCallIsTheBridges(t *testing.T) {
	bridge := newBridge(t, map[string][]answer{
		"GET /v1/instances/101": {{200, instance101}},
		"GET /v1/instances?cursor=c1&limit=2&query=%7B%22Status%22%3A%22running%22%7D": {{200, `{"instances":[` + instance101 + `],"next_cursor":"c2"}`}},
		"GET /v1/instances?query=":        {{200, `{"instances":[],"next_cursor":""}`}},
		"PATCH /v1/instances/101":         {{200, instance101}},
		"DELETE /v1/instances/101":        {{202, `{"id":"101"}`}},
		"POST /v1/instances/101/sessions": {{200, `{"instance_info":` + instance101 + `,"session_info":[{"user_id":"u","session_id":"s"}]}`}},
		"GET /v1/instances/..%2F101%3Fa":  {{404, `{"kind":"not_found","detail":"no such instance"}`}},
	})
	manager, ctx := newFleetManager(silent{}, bridge.settings()), context.Background()

	instance, err := manager.Get(ctx, "101")
	if err != nil || instance.Id != "101" || instance.ConnectionInfo.Port != 31001 || instance.PlayerCount != 3 || instance.CreateTime.IsZero() {
		t.Errorf("Get: %+v, %v", instance, err)
	}
	instances, cursor, err := manager.List(ctx, `{"Status":"running"}`, 2, "c1")
	if err != nil || len(instances) != 1 || cursor != "c2" {
		t.Errorf("List: %v, %q, %v", instances, cursor, err)
	}
	if _, _, err := manager.List(ctx, "", 0, ""); err != nil {
		t.Errorf("List of everything: %v", err)
	}
	if err := manager.Update(ctx, "101", 4, map[string]any{"mode": "duel"}); err != nil {
		t.Errorf("Update: %v", err)
	}
	if err := manager.Delete(ctx, "101"); err != nil {
		t.Errorf("Delete: %v", err)
	}
	joined, err := manager.Join(ctx, "101", []string{"u"}, map[string]string{"a": "b"})
	if err != nil || joined.InstanceInfo.Id != "101" || *joined.SessionInfo[0] != (runtime.SessionInfo{UserId: "u", SessionId: "s"}) {
		t.Errorf("Join: %+v, %v", joined, err)
	}
	if _, err := manager.Get(ctx, "../101?a"); err == nil || !strings.HasPrefix(err.Error(), "not_found: ") {
		t.Errorf("an id is more than one segment: %v", err)
	}

	for _, call := range bridge.asked() {
		if call.header.Get("Authorization") != "Bearer "+testToken {
			t.Errorf("%s %s shows no token", call.method, call.path)
		}
		switch call.method {
		case "PATCH":
			if !reflect.DeepEqual(call.body, map[string]any{"player_count": 4.0, "metadata": map[string]any{"mode": "duel"}}) {
				t.Errorf("Update sends %v", call.body)
			}
		case "POST":
			if !reflect.DeepEqual(call.body, map[string]any{"user_ids": []any{"u"}, "metadata": map[string]any{"a": "b"}}) {
				t.Errorf("Join sends %v", call.body)
			}
		}
	}
}

func TestAnErrorCarriesWhatTheBridgeSaid(t *testing.T) {
	cases := []struct {
		answer answer
		code   int
		text   string
	}{
		{answer{404, `{"kind":"not_found","detail":"instance 101 is gone","request_id":"r-1"}`}, codeNotFound, "not_found: instance 101 is gone (request r-1)"},
		{answer{422, `{"kind":"validation","detail":"the Fleet refuses this","errors":{"metadata":["too deep"]}}`}, codeInvalidArgument, "validation: the Fleet refuses this map[metadata:[too deep]]"},
		{answer{503, `{"kind":"unavailable","detail":"try again"}`}, codeUnavailable, "unavailable: try again"},
		{answer{401, `{"kind":"unauthenticated","detail":"no such token"}`}, codeInternal, "unauthenticated: no such token"},
		{answer{501, `{"kind":"unimplemented","detail":"[instances] create is off"}`}, codeUnimplemented, "unimplemented: [instances] create is off"},
		{answer{502, `<html>`}, codeUnavailable, "bad_response: status 502, and no problem of the bridge"},
		{answer{307, ``}, codeUnavailable, "bad_response: status 307, and no problem of the bridge"},
		{answer{200, `[`}, codeUnavailable, "bad_response: the bridge's answer cannot be read: unexpected end of JSON input"},
	}
	for _, one := range cases {
		bridge := newBridge(t, map[string][]answer{"GET /v1/instances/101": {one.answer}})
		_, err := newFleetManager(silent{}, bridge.settings()).Get(context.Background(), "101")
		var told *runtime.Error
		if !errors.As(err, &told) || told.Code != one.code || told.Message != one.text {
			t.Errorf("%v: %#v", one.answer, err)
		}
		if count := len(bridge.asked()); count != 1 {
			t.Errorf("%v: %d calls", one.answer, count)
		}
	}
}

func TestABridgeThatIsSilentOrEndlessIsAnError(t *testing.T) {
	silence := newBridge(t, map[string][]answer{"GET /v1/instances/101": {{0, ""}}})
	_, err := newFleetManager(silent{}, silence.settings()).Get(context.Background(), "101")
	if err == nil || !strings.HasPrefix(err.Error(), "unavailable: the bridge does not answer") || strings.Contains(err.Error(), "101") {
		t.Errorf("%v", err)
	}
	endless := newBridge(t, map[string][]answer{"GET /v1/instances/101": {{200, strings.Repeat(" ", answerBytesMax+1)}}})
	_, err = newFleetManager(silent{}, endless.settings()).Get(context.Background(), "101")
	if err == nil || !strings.HasPrefix(err.Error(), "bad_response: ") {
		t.Errorf("%v", err)
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Nanosecond)
	defer stop()
	if _, err = newFleetManager(silent{}, endless.settings()).Get(ctx, "101"); err == nil {
		t.Error("the caller's deadline is not heard")
	}
}

// initializer has what Register needs of Nakama's.
type initializer struct {
	runtime.Initializer
	registered runtime.FleetManagerInitializer
}

func (i *initializer) RegisterFleetManager(manager runtime.FleetManagerInitializer) error {
	i.registered = manager
	return manager.Init(nil, &callbacks{})
}

func TestRegisterReadsNakamasEnvironment(t *testing.T) {
	into := &initializer{}
	ctx := context.WithValue(context.Background(), runtime.RUNTIME_CTX_ENV, env())
	if err := Register(ctx, silent{}, into); err != nil || into.registered == nil {
		t.Errorf("%v", err)
	}
	into = &initializer{}
	err := Register(context.Background(), silent{}, into)
	if err == nil || !strings.Contains(err.Error(), envURL) || into.registered != nil {
		t.Errorf("without settings: %v", err)
	}
}
