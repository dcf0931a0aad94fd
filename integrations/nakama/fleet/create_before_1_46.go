//go:build nakama_common_before_1_46

package fleet

import (
	"context"

	"github.com/heroiclabs/nakama-common/runtime"
)

// Create has a match run on an idle server. An error means that nothing has begun and that the callback is never
// invoked; otherwise it is invoked once.
func (f *FleetManager) Create(ctx context.Context, maxPlayers int, userIds []string, userLatencies []runtime.FleetUserLatencies, metadata map[string]any, callback runtime.FmCreateCallbackFn) error {
	request := &instanceRequest{maxPlayers, userIds, latencies(userLatencies), metadata, f.settings.Voice, f.settings.Selectors}
	_, err := f.begin(ctx, request, callback)
	return err
}
