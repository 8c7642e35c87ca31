package hrfile

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDocument: a user has what the row says and no empty places, each extension
// that it uses among its schemas, and one element of each type.
func TestDocument(t *testing.T) {
	const mapping = `match: externalId
attributes:
  - {column: id, to: externalId}
  - {column: login, to: userName}
  - {column: given, to: name.givenName}
  - {column: family, to: name.familyName}
  - {column: mail, to: 'emails[type eq "work"].value'}
  - {column: home, to: 'emails[type eq "home"].value'}
  - {column: shown, to: 'emails[type eq "Work"].display'}
  - {column: on, to: active}
  - {column: unit, to: department}
  - {column: boss, to: manager}
`
	m, err := ParseMapping([]byte(mapping), userType(t))
	if err != nil {
		t.Fatal(err)
	}
	const core, enterprise = `"urn:ietf:params:scim:schemas:core:2.0:User"`, `"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"`
	for _, test := range []struct{ name, row, want string }{
		{"all", `1;a"\b;G;F;w@x;h@x;W;false;U;9`, `{"schemas":[` + core + `,` + enterprise + `],"externalId":"1","userName":"a\"\\b","name":{"givenName":"G","familyName":"F"},` +
			`"emails":[{"type":"work","value":"w@x","display":"W"},{"type":"home","value":"h@x"}],"active":false,` + enterprise + `:{"department":"U","manager":{"value":"9"}}}`},
		{"what has to be", `1;a;;;;;;;;`, `{"schemas":[` + core + `],"externalId":"1","userName":"a","active":true}`},
		{"the last of each", `1;a;;F;;h@x;;;;9`, `{"schemas":[` + core + `,` + enterprise + `],"externalId":"1","userName":"a","name":{"familyName":"F"},` +
			`"emails":[{"type":"home","value":"h@x"}],"active":true,` + enterprise + `:{"manager":{"value":"9"}}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			cells := map[string]string{}
			for n, c := range strings.Split(test.row, ";") {
				cells[m.fields[n].column] = c
			}
			values, _, err := m.values(row{cell: func(c string) (string, error) { return cells[c], nil }})
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.document(nil, values)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
