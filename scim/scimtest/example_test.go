package scimtest_test

import (
	"context"
	"fmt"
	"net/http"

	"github.com/roster-id/roster/scim/scimtest"
)

// A script is played against anything that answers: here a handler that has
// forgotten what it should say.
func ExampleRunner_Play() {
	script, err := scimtest.Parse("ping.txt", []byte(`
# A server says what it is.
> GET /ServiceProviderConfig
< 200
< {"patch":{"supported":true}}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	server := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"patch":{"supported":false}}`)
	})
	r := &scimtest.Runner{URL: "https://scim.example/v2", Client: scimtest.Direct(server)}
	fmt.Println(r.Play(context.Background(), script))
	// Output:
	// ping.txt:5: GET /ServiceProviderConfig: $.patch.supported: got false, want true
	// 	the response: 200 {"patch":{"supported":false}}
}
