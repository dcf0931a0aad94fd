// Command rpcs is a Nakama runtime module for tests alone: it offers the registered FleetManager as RPCs, so that a test
// can call it from outside. Every payload is the call's arguments, in the names of cases/bridge-cases.json.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"strconv"
	"sync"

	"github.com/heroiclabs/nakama-common/runtime"
)

// arguments of all calls; each uses its own.
type arguments struct {
	ID          string                       `json:"id"`
	Query       string                       `json:"query"`
	Limit       int                          `json:"limit"`
	Cursor      string                       `json:"cursor"`
	PlayerCount int                          `json:"player_count"`
	MaxPlayers  int                          `json:"max_players"`
	UserIDs     []string                     `json:"user_ids"`
	Metadata    map[string]any               `json:"metadata"`
	Latencies   []runtime.FleetUserLatencies `json:"latencies"`
	Create      string                       `json:"create"`
}

// told is one invocation of a callback.
type told struct {
	Status   runtime.FmCreateStatus `json:"status"`
	Instance *runtime.InstanceInfo  `json:"instance"`
	Sessions []*runtime.SessionInfo `json:"sessions"`
	Metadata map[string]any         `json:"metadata"`
	Error    string                 `json:"error"`
}

// creates remembers what the callbacks of each Create were told.
type creates struct {
	mutex sync.Mutex
	told  map[string][]told
}

type call = func(ctx context.Context, fleet fleetManager, args arguments) (any, error)

type fleetManager = runtime.FleetManagerInitializer

// tellsAtOnce is Create since nakama-common 1.46, tellsLater before.
type (
	tellsAtOnce interface {
		Create(context.Context, int, []string, []runtime.FleetUserLatencies, map[string]any, runtime.FmCreateCallbackFn) (map[string]string, error)
	}
	tellsLater interface {
		Create(context.Context, int, []string, []runtime.FleetUserLatencies, map[string]any, runtime.FmCreateCallbackFn) error
	}
)

// InitModule is called by Nakama when it loads the module.
func InitModule(_ context.Context, _ runtime.Logger, _ *sql.DB, _ runtime.NakamaModule, initializer runtime.Initializer) error {
	made := &creates{told: map[string][]told{}}
	calls := map[string]call{
		"fleet_list": list, "fleet_get": get, "fleet_update": update, "fleet_join": join, "fleet_delete": remove,
		"fleet_create": made.create, "fleet_told": made.look,
	}
	for name, call := range calls {
		if err := initializer.RegisterRpc(name, rpc(call)); err != nil {
			return err
		}
	}
	return nil
}

func rpc(call call) func(context.Context, runtime.Logger, *sql.DB, runtime.NakamaModule, string) (string, error) {
	return func(ctx context.Context, _ runtime.Logger, _ *sql.DB, nk runtime.NakamaModule, payload string) (string, error) {
		// What is registered can do more than Nakama hands out.
		fleet, ok := nk.GetFleetManager().(fleetManager)
		if !ok {
			return "", runtime.NewError("no fleet manager is registered", 13)
		}
		var args arguments
		if err := json.Unmarshal([]byte(payload), &args); err != nil {
			return "", runtime.NewError("the test's payload: "+err.Error(), 3)
		}
		answer, err := call(ctx, fleet, args)
		if err != nil {
			return "", err
		}
		text, err := json.Marshal(answer)
		return string(text), err
	}
}

func list(ctx context.Context, fleet fleetManager, args arguments) (any, error) {
	instances, cursor, err := fleet.List(ctx, args.Query, args.Limit, args.Cursor)
	return map[string]any{"instances": instances, "next_cursor": cursor}, err
}

func get(ctx context.Context, fleet fleetManager, args arguments) (any, error) {
	instance, err := fleet.Get(ctx, args.ID)
	return map[string]any{"instance": instance}, err
}

func update(ctx context.Context, fleet fleetManager, args arguments) (any, error) {
	return map[string]any{"ok": true}, fleet.Update(ctx, args.ID, args.PlayerCount, args.Metadata)
}

func remove(ctx context.Context, fleet fleetManager, args arguments) (any, error) {
	return map[string]any{"ok": true}, fleet.Delete(ctx, args.ID)
}

func join(ctx context.Context, fleet fleetManager, args arguments) (any, error) {
	return fleet.Join(ctx, args.ID, args.UserIDs, map[string]string{})
}

// create returns at once, with a name under which look finds what the callback was told.
func (c *creates) create(ctx context.Context, fleet fleetManager, args arguments) (any, error) {
	c.mutex.Lock()
	name := strconv.Itoa(len(c.told))
	c.told[name] = []told{}
	c.mutex.Unlock()
	callback := func(status runtime.FmCreateStatus, instance *runtime.InstanceInfo, sessions []*runtime.SessionInfo, metadata map[string]any, err error) {
		one := told{Status: status, Instance: instance, Sessions: sessions, Metadata: metadata}
		if err != nil {
			one.Error = err.Error()
		}
		c.mutex.Lock()
		defer c.mutex.Unlock()
		c.told[name] = append(c.told[name], one)
	}
	var begun map[string]string
	var err error
	// Whichever shape Create has in the nakama-common built with.
	switch shape := any(fleet).(type) {
	case tellsAtOnce:
		begun, err = shape.Create(ctx, args.MaxPlayers, args.UserIDs, args.Latencies, args.Metadata, callback)
	case tellsLater:
		err = shape.Create(ctx, args.MaxPlayers, args.UserIDs, args.Latencies, args.Metadata, callback)
	default:
		err = runtime.NewError("the fleet manager's Create is not known", 13)
	}
	return map[string]any{"create": name, "begun": begun}, err
}

func (c *creates) look(_ context.Context, _ fleetManager, args arguments) (any, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return map[string]any{"told": c.told[args.Create]}, nil
}

// Plugins have no main, but a command must.
func main() {}
