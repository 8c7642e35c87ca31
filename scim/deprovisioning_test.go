package scim

import "testing"

func TestDeactivates(t *testing.T) {
	t.Parallel()
	patch := func(operations string) string {
		return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[` + operations + `]}`
	}
	for body, want := range map[string]bool{
		`{"userName":"ana","active":false}`:   true,
		`{"userName":"ana","Active":"False"}`: true,
		`{"userName":"ana","active":true}`:    false,
		`{"userName":"ana"}`:                  false,
		`{"name":{"active":false}}`:           false,
		`[{"active":false}]`:                  false,
		`{"active":false`:                     false,
		``:                                    false,
		patch(`{"op":"replace","path":"active","value":false}`):                                               true,
		patch(`{"op":"Add","path":"ACTIVE","value":"False"}`):                                                 true,
		patch(`{"op":"replace","path":"urn:ietf:params:scim:schemas:core:2.0:User:active","value":false}`):    true,
		patch(`{"op":"replace","value":{"title":"x","active":false}}`):                                        true,
		patch(`{"op":"replace","value":{"urn:ietf:params:scim:schemas:core:2.0:User:active":false}}`):         true,
		patch(`{"op":"replace","path":"title","value":"x"},{"op":"replace","path":"active","value":false}`):   true,
		patch(`{"op":"replace","path":"active","value":false},{"op":"replace","path":"title","value":false}`): true,
		patch(`{"op":"replace","path":"active","value":false},{"op":"replace","path":"active","value":true}`): false,
		patch(`{"op":"replace","path":"active","value":true}`):                                                false,
		patch(`{"op":"remove","path":"active","value":false}`):                                                false,
		patch(`{"op":"replace","path":"title","value":false}`):                                                false,
		patch(`{"op":"replace","path":"emails[value eq \"active\"].primary","value":false}`):                  false,
		patch(`7`): false,
	} {
		if got := Deactivates([]byte(body)); got != want {
			t.Errorf("%s: %t", body, got)
		}
	}
}
