// Command nakama is a Nakama runtime module: it registers a FleetManager that asks a Bifrost bridge for game servers on
// ODIN Fleet. Build it as a Go plugin; README.md says how.
package main

import (
	"context"
	"database/sql"

	"github.com/heroiclabs/nakama-common/runtime"

	"bifrost/integrations/nakama/fleet"
)

// InitModule is called by Nakama when it loads the module. An error stops Nakama from starting.
func InitModule(ctx context.Context, logger runtime.Logger, _ *sql.DB, _ runtime.NakamaModule, initializer runtime.Initializer) error {
	return fleet.Register(ctx, logger, initializer)
}

// Plugins have no main, but a command must.
func main() {}
