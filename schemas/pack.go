package schemas

import (
	"encoding/json"
	"fmt"
)

// Pack returns the schemas of a pack that comes with Roster, to be defined together:
// "device" is those of RFC 9944. It is false if there is no such pack.
func Pack(name string) ([]CustomSchema, bool) {
	if name != "device" {
		return nil, false
	}
	raw, err := files.ReadFile("pack_device.json")
	if err != nil {
		panic(err)
	}
	var list []CustomSchema
	if err := json.Unmarshal(raw, &list); err != nil {
		panic(fmt.Sprintf("pack_device.json: %v", err))
	}
	return list, true
}
