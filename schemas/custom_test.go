package schemas_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/roster-id/roster/schemas"
)

// TestPack: a pack goes with what is built in, without a word that is not its own.
func TestPack(t *testing.T) {
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	list, ok := schemas.Pack("device")
	if !ok {
		t.Fatal("there is no pack")
	}
	with, err := set.With(list)
	if err != nil {
		t.Fatal(err)
	}
	if with.Type("User") != set.Type("User") {
		t.Error("users are other than they were")
	}
	device := with.Type("Device")
	if !device.Custom || len(device.Extensions) != 6 || device.Top("groups").Detached {
		t.Errorf("devices are %+v", device)
	}
	for _, secret := range []string{"ble:2.0:Device:irk", "dpp:2.0:Device:bootstrapKey", "fido-device-onboard:2.0:Device:fdoVoucher"} {
		if a := device.Lookup("urn:ietf:params:scim:schemas:extension:" + secret); a == nil || a.Readable() {
			t.Errorf("%s can be read", secret)
		}
	}
	if _, err := set.With(append(list, list[0])); !errors.As(err, new(*schemas.DefinitionError)) {
		t.Errorf("twice: %v", err)
	}
}

// TestFits: a stored value fits a definition that would have made it.
func TestFits(t *testing.T) {
	custom := schemas.CustomSchema{ResourceType: &schemas.TypeDefinition{Name: "Gadget", Endpoint: "/Gadgets"}, Schema: schemas.SchemaDefinition{
		ID: "urn:example:gadget", Attributes: []schemas.AttributeDefinition{
			{Name: "s"}, {Name: "n", Type: "integer"}, {Name: "list", MultiValued: true}, {Name: "r", Mutability: "readOnly"},
			{Name: "c", Type: "complex", SubAttributes: []schemas.SubAttributeDefinition{{Name: "must", Required: true}, {Name: "may"}}},
			{Name: "pairs", Type: "complex", MultiValued: true, SubAttributes: []schemas.SubAttributeDefinition{{Name: "value"}, {Name: "seen", Mutability: "readOnly"}}},
			{Name: "lock", Type: "complex", Required: true, SubAttributes: []schemas.SubAttributeDefinition{{Name: "code", Returned: "never"}, {Name: "hint"}}},
		},
	}}
	s, err := custom.Compile()
	if err != nil {
		t.Fatal(err)
	}
	rt, err := schemas.NewResourceType("Gadget", "/Gadgets", "", s)
	if err != nil {
		t.Fatal(err)
	}
	type object = map[string]any
	for _, c := range []struct {
		attr string
		v    any
		fits bool
	}{
		{"s", "x", true}, {"s", int64(1), false}, {"s", []any{"x"}, false}, {"s", true, false},
		{"n", int64(1), true}, {"n", "1", false}, {"n", 1.5, false},
		{"list", []any{"x", "y"}, true}, {"list", "x", false},
		{"c", object{"must": "x"}, true}, {"c", object{"may": "x"}, false}, {"c", object{"must": "x", "other": "y"}, false}, {"c", "x", false},
		{"r", "x", false}, {"r", nil, true}, {"pairs", []any{object{"value": "x"}, object{"value": "y"}}, true}, {"pairs", []any{object{"value": "x"}, object{"value": "X"}}, false},
		{"pairs", []any{object{"value": "x", "seen": "y"}}, false}, {"lock", object{"hint": "x"}, true}, {"lock", object{"code": "x"}, false}, {"lock", nil, true},
	} {
		if err := rt.Top(c.attr).Fits(c.v); (err == nil) != c.fits {
			t.Errorf("%s = %v: %v", c.attr, c.v, err)
		}
	}
	for path, v := range map[string]object{"c.gone": {"must": "x", "gone": "y"}, "c.May": {"must": "x", "May": "y"}} {
		if err := rt.Top("c").Fits(v); err == nil || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%v: %v, want one about %s", v, err, path)
		}
	}
}
