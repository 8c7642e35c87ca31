package api

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/roster-id/roster/auth"
)

// openAPI describes both surfaces (OpenAPI 3.1).
//
//go:embed openapi.yaml
var openAPI []byte

// documentJSON is openAPI as JSON.
var documentJSON = sync.OnceValues(func() ([]byte, error) {
	var tree any
	if err := yaml.Unmarshal(openAPI, &tree); err != nil {
		return nil, err
	}
	return json.Marshal(tree)
})

func (a *API) document(w http.ResponseWriter, _ *http.Request, _ auth.Principal) error {
	body, err := documentJSON()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, err = w.Write(body)
	return err
}
