//! Client of the ODIN Fleet API, generated from openapi/odin-fleet.json.
