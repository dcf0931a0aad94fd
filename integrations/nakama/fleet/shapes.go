package fleet

import (
	"context"
	"errors"

	"github.com/heroiclabs/nakama-common/runtime"
)

// Nakama's FleetManager has had two shapes: before nakama-common 1.46, Create returned an error alone. A plugin is built
// with the nakama-common of the Nakama that loads it, so both are here, and whichever is Nakama's is registered.

// toldAtOnce is the fleet manager since nakama-common 1.46.
type toldAtOnce struct{ *fleetManager }

// Create has a match run on an idle server. An error means that nothing has begun and that the callback is never
// invoked; otherwise it is invoked once. The map returned has the operation_id, unless the bridge could not be reached
// at once.
func (f toldAtOnce) Create(ctx context.Context, maxPlayers int, userIds []string, userLatencies []runtime.FleetUserLatencies, metadata map[string]any, callback runtime.FmCreateCallbackFn) (map[string]string, error) {
	id, err := f.begin(ctx, f.request(maxPlayers, userIds, userLatencies, metadata), callback)
	if err != nil {
		return nil, err
	}
	if id == "" {
		return map[string]string{}, nil
	}
	return map[string]string{"operation_id": id}, nil
}

// toldLater is the fleet manager before nakama-common 1.46.
type toldLater struct{ *fleetManager }

// Create has a match run on an idle server. An error means that nothing has begun and that the callback is never
// invoked; otherwise it is invoked once.
func (f toldLater) Create(ctx context.Context, maxPlayers int, userIds []string, userLatencies []runtime.FleetUserLatencies, metadata map[string]any, callback runtime.FmCreateCallbackFn) error {
	_, err := f.begin(ctx, f.request(maxPlayers, userIds, userLatencies, metadata), callback)
	return err
}

// shaped gives the fleet manager that the nakama-common built with knows.
func shaped(made *fleetManager) (runtime.FleetManagerInitializer, error) {
	for _, shape := range []any{toldAtOnce{made}, toldLater{made}} {
		if known, ok := shape.(runtime.FleetManagerInitializer); ok {
			return known, nil
		}
	}
	return nil, errors.New("bifrost: this module was built with a nakama-common whose FleetManager it does not know")
}
