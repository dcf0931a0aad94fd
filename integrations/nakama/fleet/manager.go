package fleet

import (
	"context"
	"errors"

	"github.com/heroiclabs/nakama-common/runtime"
)

// pendingMax bounds the Creates that are under way at once; each holds a goroutine and asks the bridge now and then.
const pendingMax = 1024

// fleetManager is Nakama's fleet on a Bifrost bridge, all but Create. Its errors are *runtime.Error, and their text begins
// with the bridge's kind: "not_found: …".
type fleetManager struct {
	bridge   *client
	settings Settings
	logger   runtime.Logger
	callback runtime.FmCallbackHandler
	// One element for each Create under way.
	pending chan struct{}
	wait    func(ctx context.Context, attempt int) error
}

// New makes a fleet manager that is not registered yet. An error means that this module does not know the fleet managers
// of the nakama-common that it is built with.
func New(logger runtime.Logger, settings Settings) (runtime.FleetManagerInitializer, error) {
	return shaped(newFleetManager(logger, settings))
}

func newFleetManager(logger runtime.Logger, settings Settings) *fleetManager {
	return &fleetManager{
		bridge:   newClient(settings),
		settings: settings,
		logger:   logger,
		pending:  make(chan struct{}, pendingMax),
		wait:     pause,
	}
}

// Register makes a fleet manager from Nakama's runtime.env and registers it. Modules that have an InitModule of their
// own call this from there.
func Register(ctx context.Context, logger runtime.Logger, initializer runtime.Initializer) error {
	env, _ := ctx.Value(runtime.RUNTIME_CTX_ENV).(map[string]string)
	settings, err := SettingsFromEnv(env)
	if err != nil {
		return err
	}
	made, err := New(logger, settings)
	if err != nil {
		return err
	}
	if err := initializer.RegisterFleetManager(made); err != nil {
		return err
	}
	logger.Info("bifrost: game servers come from the bridge at %s", settings.BridgeURL)
	return nil
}

// Init is called by Nakama when the fleet manager is registered.
func (f *fleetManager) Init(_ runtime.NakamaModule, callbackHandler runtime.FmCallbackHandler) error {
	if callbackHandler == nil {
		return errors.New("bifrost: Nakama gives no callback handler")
	}
	f.callback = callbackHandler
	return nil
}

// Get asks the Fleet for one instance, through the bridge.
func (f *fleetManager) Get(ctx context.Context, id string) (*runtime.InstanceInfo, error) {
	instance, err := f.bridge.get(ctx, id)
	return instance, toRuntime(err)
}

// List gives a page of instances. The query is the JSON of ODIN's guide: Metadata, Status, Location. A page may be empty
// while the cursor is not.
func (f *fleetManager) List(ctx context.Context, query string, limit int, previousCursor string) ([]*runtime.InstanceInfo, string, error) {
	instances, cursor, err := f.bridge.list(ctx, query, limit, previousCursor)
	return instances, cursor, toRuntime(err)
}

// Join reserves seats in the match that runs on an instance, all or none.
func (f *fleetManager) Join(ctx context.Context, id string, userIds []string, metadata map[string]string) (*runtime.JoinInfo, error) {
	joined, err := f.bridge.join(ctx, id, userIds, metadata)
	return joined, toRuntime(err)
}

// Update sets the number of players and merges metadata.
func (f *fleetManager) Update(ctx context.Context, id string, playerCount int, metadata map[string]any) error {
	return toRuntime(f.bridge.update(ctx, id, playerCount, metadata))
}

// Delete ends the match that runs on an instance and stops its server.
func (f *fleetManager) Delete(ctx context.Context, id string) error {
	return toRuntime(f.bridge.delete(ctx, id))
}
