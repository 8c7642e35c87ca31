package scim_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/scim/patch"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

// thingURN is of a resource type that is defined and defined otherwise, at random.
const thingURN = "urn:example:thing"

// TestRedefinitionKeeps draws a definition, resources and another definition. Where that is
// accepted, each resource is as it was, a PATCH of something else changes nothing else, and
// it is found by its values. Both stores say the same about all of it.
func TestRedefinitionKeeps(t *testing.T) {
	raced.Skip(t)
	setChecks(t, number(t, "ROSTER_TEST_REDEFINITIONS", 150))
	var servers []*thingServer
	for _, name := range []string{"SQLite", "MongoDB"} {
		s := testserver.Start(t, testserver.Options{Open: stores[name]})
		servers = append(servers, &thingServer{Server: s, strict: s.Client(t, "strict", auth.ProfileStrict)})
	}
	accepted, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		first := rapid.SliceOfNDistinct(rapid.Custom(drawnAttribute), 1, 2, func(a schemas.AttributeDefinition) string { return a.Name }).Draw(rt, "first")
		var bodies []map[string]any
		for range 3 {
			bodies = append(bodies, drawnThing(rt, first))
		}
		next := slices.Clone(first)
		at := rapid.IntRange(0, len(next)-1).Draw(rt, "at")
		next[at] = otherwise(rt, next[at])
		var told []string
		for _, s := range servers {
			ok, text := s.redefined(rt, first, next, bodies)
			if told = append(told, text); ok {
				accepted++
			} else {
				refused++
			}
		}
		if diff := cmp.Diff(told[0], told[1]); diff != "" {
			rt.Errorf("-SQLite +MongoDB:\n%s", diff)
		}
	})
	if accepted == 0 || refused == 0 {
		t.Errorf("%d were accepted, %d refused", accepted, refused)
	}
}

func drawnAttribute(rt *rapid.T) schemas.AttributeDefinition {
	a := schemas.AttributeDefinition{Name: rapid.SampledFrom([]string{"displayName", "emails"}).Draw(rt, "name"), MultiValued: rapid.Bool().Draw(rt, "multiValued"),
		Type: rapid.SampledFrom([]string{"string", "string", "integer", "complex", "complex"}).Draw(rt, "type")}
	if a.Type == "complex" {
		for _, name := range []string{"value", "type", "x"} {
			s := schemas.SubAttributeDefinition{Name: name, Type: rapid.SampledFrom([]string{"string", "string", "integer"}).Draw(rt, "type")}
			if name == "x" {
				s.Returned = rapid.SampledFrom([]string{"default", "never"}).Draw(rt, "returned")
			}
			a.SubAttributes = append(a.SubAttributes, s)
		}
	}
	if rapid.Bool().Draw(rt, "otherwise") {
		a = otherwise(rt, a)
	}
	return a
}

// otherwise draws an attribute that is like another one but for one characteristic.
func otherwise(rt *rapid.T, a schemas.AttributeDefinition) schemas.AttributeDefinition {
	a.SubAttributes = slices.Clone(a.SubAttributes)
	switch rapid.IntRange(0, 12).Draw(rt, "otherwise") {
	case 0:
		a.Name = strings.ToUpper(a.Name)
	case 1:
		a.MultiValued = !a.MultiValued
	case 2, 8, 9:
		a.CaseExact = !a.CaseExact
	case 3:
		a.Required = !a.Required
	case 4:
		a.Mutability = rapid.SampledFrom([]string{"readWrite", "readOnly", "immutable"}).Draw(rt, "mutability")
	case 5:
		a.Returned = rapid.SampledFrom([]string{"default", "always", "request", "never"}).Draw(rt, "returned")
	case 6:
		a.Uniqueness = rapid.SampledFrom([]string{"none", "server"}).Draw(rt, "uniqueness")
	case 7:
		a.Type, a.SubAttributes = rapid.SampledFrom([]string{"string", "integer", "reference"}).Draw(rt, "type"), nil
	default:
		if len(a.SubAttributes) == 0 {
			return a
		}
		switch s := &a.SubAttributes[rapid.IntRange(0, 2).Draw(rt, "sub")]; rapid.IntRange(0, 6).Draw(rt, "otherwise") {
		case 0:
			s.Name = strings.ToUpper(s.Name)
		case 1, 5, 6:
			s.CaseExact = !s.CaseExact
		case 2:
			s.Required = !s.Required
		case 3:
			s.Mutability = rapid.SampledFrom([]string{"readWrite", "readOnly"}).Draw(rt, "mutability")
		case 4:
			s.Type = rapid.SampledFrom([]string{"string", "integer"}).Draw(rt, "type")
		}
	}
	return a
}

func drawnThing(rt *rapid.T, defs []schemas.AttributeDefinition) map[string]any {
	body := map[string]any{"schemas": []string{thingURN}}
	simple := func(typ string) any {
		return rapid.SampledFrom(map[string][]any{"string": {"A", "a"}, "integer": {0, 7}, "reference": {"/x"}}[typ]).Draw(rt, "value")
	}
	for _, a := range defs {
		one := func() any {
			if a.Type != "complex" {
				return simple(a.Type)
			}
			m := map[string]any{}
			for _, s := range a.SubAttributes {
				if rapid.Bool().Draw(rt, "there") {
					m[s.Name] = simple(s.Type)
				}
			}
			return m
		}
		switch {
		case !a.Required && rapid.IntRange(0, 3).Draw(rt, "there") == 0:
		case a.MultiValued:
			body[a.Name] = []any{one(), one()}
		default:
			body[a.Name] = one()
		}
	}
	return body
}

type thingServer struct {
	*testserver.Server
	strict string
}

// redefined makes things of a definition, puts another one in its place, and says what came
// of it. All is gone in the end.
func (s *thingServer) redefined(rt *rapid.T, first, next []schemas.AttributeDefinition, bodies []map[string]any) (accepted bool, told string) {
	rt.Helper()
	things := func(attributes []schemas.AttributeDefinition) schemas.CustomSchema {
		return schemas.CustomSchema{ResourceType: &schemas.TypeDefinition{Name: "Thing", Endpoint: "/Things"}, Schema: schemas.SchemaDefinition{ID: thingURN, Attributes: attributes}}
	}
	if err := s.Provider.Define(rt.Context(), operator(), things(first)); err != nil {
		return false, err.Error()
	}
	var out strings.Builder
	paths := map[string]string{} // by the id of the thing
	for _, body := range bodies {
		status, thing := s.asks(rt, "POST", "/Things", body)
		fmt.Fprintln(&out, status, thing["detail"])
		if id, ok := thing["id"].(string); ok {
			paths[id] = fmt.Sprintf("/Things/%s?attributes=%s,schemas", id, thingURN)
		}
	}
	defer func() {
		for id := range paths {
			s.asks(rt, "DELETE", "/Things/"+id, nil)
		}
		if err := s.Provider.Undefine(rt.Context(), operator(), thingURN); err != nil {
			rt.Error(err)
		}
	}()
	before := map[string]map[string]any{}
	for id, path := range paths {
		_, before[id] = s.asks(rt, "GET", path, nil)
	}
	err := s.Provider.Redefine(rt.Context(), operator(), things(next))
	if offenders, ok := errors.AsType[*scim.OffendersError](err); ok {
		for _, o := range offenders.Offenders {
			fmt.Fprintln(&out, isID.ReplaceAllString(o.Msg, "id"))
		}
	}
	if err != nil {
		return false, out.String() + err.Error()
	}
	for id, was := range before {
		for name, v := range was {
			text, ok := v.(string)
			if !ok || name == "id" {
				continue
			}
			_, list := s.asks(rt, "GET", "/Things?attributes=id&filter="+url.QueryEscape(fmt.Sprintf("%s eq %q", name, text)), nil)
			if !strings.Contains(fmt.Sprint(list["Resources"]), id) {
				rt.Errorf("by %s eq %q are found %v", name, text, list)
			}
		}
		patched, problem := s.asks(rt, "PATCH", "/Things/"+id, map[string]any{"schemas": []string{patch.MessageURI}, "Operations": []map[string]any{{"op": "add", "path": "externalId", "value": "x"}}})
		_, is := s.asks(rt, "GET", paths[id], nil)
		if diff := cmp.Diff(was, is); patched != 200 || diff != "" {
			rt.Errorf("a PATCH of something else: %d %v (-before +after):\n%s", patched, problem["detail"], diff)
		}
		if diff := cmp.Diff(is, s.again(rt, id, paths[id], is)); diff != "" {
			rt.Errorf("a PUT of what there is (-before +after):\n%s", diff)
		}
	}
	return true, out.String()
}

// again puts what there is in its own place and returns what there is then. What is required
// and never shown has to be given anew, so that is no harm.
func (s *thingServer) again(rt *rapid.T, id, path string, is map[string]any) map[string]any {
	rt.Helper()
	status, answer := s.asks(rt, "PUT", "/Things/"+id, is)
	if status == 400 && strings.HasSuffix(fmt.Sprint(answer["detail"]), "is required") {
		return is
	}
	if status != 200 {
		rt.Errorf("a PUT of what there is: %d %v", status, answer["detail"])
	}
	_, then := s.asks(rt, "GET", path, nil)
	return then
}

// asks sends a request as the strict client.
func (s *thingServer) asks(rt *rapid.T, method, path string, body map[string]any) (int, map[string]any) {
	rt.Helper()
	text := ""
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			rt.Fatal(err)
		}
		text = string(b)
	}
	r, err := s.Try(rt.Context(), method, path, text, "Authorization", "Bearer "+s.strict)
	if err != nil {
		rt.Fatal(err)
	}
	var out map[string]any
	if r.Body != "" {
		if err := json.Unmarshal([]byte(r.Body), &out); err != nil {
			rt.Fatal(err)
		}
	}
	if r.Status >= 500 {
		rt.Errorf("%s %s: %d %s", method, path, r.Status, r.Body)
	}
	return r.Status, out
}
