//go:build !nakama_common_before_1_46

package fleet

import (
	"context"

	"github.com/heroiclabs/nakama-common/runtime"
)

// Create has a match run on an idle server. An error means that nothing has begun and that the callback is never
// invoked; otherwise it is invoked once. The map returned has the operation_id, unless the bridge could not be reached
// at once.
func (f *FleetManager) Create(ctx context.Context, maxPlayers int, userIds []string, userLatencies []runtime.FleetUserLatencies, metadata map[string]any, callback runtime.FmCreateCallbackFn) (map[string]string, error) {
	request := &instanceRequest{maxPlayers, userIds, latencies(userLatencies), metadata, f.settings.Voice, f.settings.Selectors}
	id, err := f.begin(ctx, request, callback)
	if err != nil {
		return nil, err
	}
	if id == "" {
		return map[string]string{}, nil
	}
	return map[string]string{"operation_id": id}, nil
}
