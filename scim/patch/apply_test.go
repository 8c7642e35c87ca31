package patch

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/schemas"
)

// TestAdd is RFC 7644 §3.5.2.1. What it says holds in both modes.
func TestAdd(t *testing.T) {
	both(t, user, []row{
		{name: "an attribute that has no value", ops: `{"op":"add","path":"nickName","value":"Babs"}`, want: `{"nickName":"Babs"}`},
		{name: "a single value is replaced", before: `{"nickName":"B"}`, ops: `{"op":"add","path":"nickName","value":"Babs"}`, want: `{"nickName":"Babs"}`},
		{name: "names in any case", ops: `{"op":"add","path":"NICKNAME","value":"Babs"}`, want: `{"nickName":"Babs"}`},
		{name: "a sub-attribute", before: `{"name":{"familyName":"Jensen"}}`, ops: `{"op":"add","path":"name.givenName","value":"Barbara"}`,
			want: `{"name":{"familyName":"Jensen","givenName":"Barbara"}}`},
		{name: "a complex value is merged", before: `{"name":{"familyName":"Jensen","givenName":"B"}}`,
			ops:  `{"op":"add","path":"name","value":{"givenName":"Barbara"}}`,
			want: `{"name":{"familyName":"Jensen","givenName":"Barbara"}}`},
		{name: "to a list", before: `{"emails":[{"value":"a@example.com","type":"work"}]}`,
			ops:  `{"op":"add","path":"emails","value":[{"value":"b@example.com","type":"home"}]}`,
			want: `{"emails":[{"value":"a@example.com","type":"work"},{"value":"b@example.com","type":"home"}]}`},
		{name: "to a list that is not there", ops: `{"op":"add","path":"emails","value":[{"value":"b@example.com"}]}`, want: `{"emails":[{"value":"b@example.com"}]}`},
		{name: "what is there already", before: `{"emails":[{"value":"a@example.com","type":"work"}]}`,
			ops:  `{"op":"add","path":"emails","value":[{"value":"a@example.com","type":"work"}]}`,
			want: `{"emails":[{"value":"a@example.com","type":"work"}]}`},
		{name: "the same type and value is merged, as sent", before: `{"emails":[{"value":"A@example.com","type":"work","display":"A"}]}`,
			ops:  `{"op":"add","path":"emails","value":[{"value":"a@example.com","type":"Work","primary":true}]}`,
			want: `{"emails":[{"value":"a@example.com","type":"Work","display":"A","primary":true}]}`},
		{name: "an element without a value is compared whole", before: `{"addresses":[{"country":"SE","type":"work"}]}`,
			ops:  `{"op":"add","path":"addresses","value":[{"country":"se","type":"work"},{"country":"SE"}]}`,
			want: `{"addresses":[{"country":"se","type":"work"},{"country":"SE"}]}`},
		{name: "twice in one value", ops: `{"op":"add","path":"emails","value":[{"value":"a@example.com"},{"value":"a@example.com","display":"A"}]}`,
			want: `{"emails":[{"value":"a@example.com","display":"A"}]}`},
		{name: "nothing to a list", before: `{"emails":[{"value":"a@example.com"}]}`,
			ops:  `{"op":"add","path":"emails","value":[]},{"op":"add","path":"emails","value":null}`,
			want: `{"emails":[{"value":"a@example.com"}]}`},
		{name: "null to a single value unsets it, as replace does", before: `{"title":"x","name":{"givenName":"B"}}`,
			ops: `{"op":"add","path":"title","value":null},{"op":"add","path":"name","value":{"givenName":null}}`},
		{name: "the primary moves", before: `{"emails":[{"value":"a@example.com","primary":true}]}`,
			ops:  `{"op":"add","path":"emails","value":[{"value":"b@example.com","primary":true}]}`,
			want: `{"emails":[{"value":"a@example.com","primary":false},{"value":"b@example.com","primary":true}]}`},
		{name: "the primary moves although the old one is repeated", before: `{"emails":[{"value":"a@example.com","primary":true}]}`,
			ops:  `{"op":"add","path":"emails","value":[{"value":"a@example.com"},{"value":"b@example.com","primary":true}]}`,
			want: `{"emails":[{"value":"a@example.com","primary":false},{"value":"b@example.com","primary":true}]}`},
		{name: "the primary moves to what is there, the old one is repeated", before: `{"emails":[{"value":"a@example.com","primary":true},{"value":"b@example.com"}]}`,
			ops:  `{"op":"add","path":"emails","value":[{"value":"b@example.com","primary":true},{"value":"a@example.com"}]}`,
			want: `{"emails":[{"value":"a@example.com","primary":false},{"value":"b@example.com","primary":true}]}`},
		{name: "the primary stays when it is repeated with others", before: `{"emails":[{"value":"a@example.com","primary":true}]}`,
			ops:  `{"op":"add","path":"emails","value":[{"value":"a@example.com","primary":true},{"value":"b@example.com","primary":false},{"value":"c@example.com"}]}`,
			want: `{"emails":[{"value":"a@example.com","primary":true},{"value":"b@example.com","primary":false},{"value":"c@example.com"}]}`},
		{name: "to the elements of a filter: merged", before: `{"emails":[{"value":"a@example.com","type":"work"},{"value":"h@example.com","type":"home"}]}`,
			ops:  `{"op":"add","path":"emails[type eq \"work\"]","value":{"display":"A"}}`,
			want: `{"emails":[{"value":"a@example.com","type":"work","display":"A"},{"value":"h@example.com","type":"home"}]}`},
		{name: "nothing to the elements of a filter", before: `{"emails":[{"value":"a@example.com","type":"work"}]}`,
			ops:  `{"op":"add","path":"emails[type eq \"work\"]","value":null}`,
			want: `{"emails":[{"value":"a@example.com","type":"work"}]}`},
		{name: "to a sub-attribute of a list: a new element", before: `{"emails":[{"value":"a@example.com","type":"work"}]}`,
			ops:  `{"op":"add","path":"emails.value","value":"b@example.com"},{"op":"add","path":"emails.value","value":"A@example.com"}`,
			want: `{"emails":[{"value":"a@example.com","type":"work"},{"value":"b@example.com"}]}`},
		{name: "a label of a list: every element", before: `{"emails":[{"value":"a@example.com"},{"value":"b@example.com"}]}`,
			ops:  `{"op":"add","path":"emails.type","value":"work"}`,
			want: `{"emails":[{"value":"a@example.com","type":"work"},{"value":"b@example.com","type":"work"}]}`},
		{name: "a label of an empty list", ops: `{"op":"add","path":"emails.display","value":"A"}`, want: `{"emails":[{"display":"A"}]}`},
		{name: "nothing to a sub-attribute of a list", ops: `{"op":"add","path":"emails.value","value":null}`},
		{name: "an attribute of an extension", ops: `{"op":"add","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department","value":"Ops"}`,
			want: `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"Ops"}}`},
		{name: "a sub-attribute in an extension", ops: `{"op":"add","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value","value":"m1"}`,
			want: `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"manager":{"value":"m1"}}}`},
		{name: "an extension as a whole", before: `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"costCenter":"1"}}`,
			ops:  `{"op":"add","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User","value":{"Department":"Ops","manager":{"value":"m1"}}}`,
			want: `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"costCenter":"1","department":"Ops","manager":{"value":"m1"}}}`},
		{name: "without a path", before: `{"emails":[{"value":"a@example.com"}]}`,
			ops:  `{"op":"add","value":{"emails":[{"value":"b@example.com"}],"nickname":"Babs","name":{"givenName":"B"},"externalId":"7"}}`,
			want: `{"emails":[{"value":"a@example.com"},{"value":"b@example.com"}],"nickName":"Babs","name":{"givenName":"B"},"externalId":"7"}`},
		{name: "a password stays in the result, for the caller to take out", ops: `{"op":"add","path":"password","value":"t1meMa$heen"}`, want: `{"password":"t1meMa$heen"}`},
		{name: "operations see what those before them did",
			ops:  `{"op":"add","path":"emails","value":[{"value":"a@example.com","type":"work"}]},{"op":"replace","path":"emails[type eq \"work\"].value","value":"b@example.com"}`,
			want: `{"emails":[{"value":"b@example.com","type":"work"}]}`},
		{name: "no object without a path", ops: `{"op":"add","value":"x"}`, err: "invalidValue: Operations[0]: expected an object of attributes and their values"},
		{name: "no object for a complex attribute", ops: `{"op":"add","path":"name","value":5}`, err: "invalidValue: Operations[0]: name: expected an object"},
		{name: "a value of another type", ops: `{"op":"add","path":"emails","value":[{"value":"a"},{"value":{"b":1}}]}`,
			err: "invalidValue: Operations[0]: emails[1].value: expected a string"},
		{name: "all or nothing", ops: `{"op":"add","path":"nickName","value":"Babs"},{"op":"add","path":"active","value":"maybe"}`,
			err: "invalidValue: Operations[1]: active: expected a boolean"},
	})
}

// TestReplace is RFC 7644 §3.5.2.3.
func TestReplace(t *testing.T) {
	const two = `{"emails":[{"value":"a@example.com","type":"work","display":"A"},{"value":"b@example.com","type":"work"},{"value":"h@example.com","type":"home"}]}`
	both(t, user, []row{
		{name: "a single value", before: `{"active":true}`, ops: `{"op":"replace","path":"active","value":false}`, want: `{"active":false}`},
		{name: "what is not there is added", ops: `{"op":"replace","path":"title","value":"Dr"}`, want: `{"title":"Dr"}`},
		{name: "a complex value: only what is given", before: `{"name":{"familyName":"Jensen","givenName":"B"}}`,
			ops:  `{"op":"replace","path":"name","value":{"givenName":"Barbara","middleName":"J"}}`,
			want: `{"name":{"familyName":"Jensen","givenName":"Barbara","middleName":"J"}}`},
		{name: "a list as a whole", before: two, ops: `{"op":"replace","path":"emails","value":[{"value":"n@example.com"}]}`, want: `{"emails":[{"value":"n@example.com"}]}`},
		{name: "by an empty list, or null", before: two, ops: `{"op":"replace","path":"emails","value":[]},{"op":"replace","path":"emails","value":null}`},
		{name: "elements of a filter: whole", before: two, ops: `{"op":"replace","path":"emails[value sw \"a@\"]","value":{"value":"n@example.com","type":"other"}}`,
			want: `{"emails":[{"value":"n@example.com","type":"other"},{"value":"b@example.com","type":"work"},{"value":"h@example.com","type":"home"}]}`},
		{name: "elements of a filter, all of them", before: two, ops: `{"op":"replace","path":"emails[type eq \"work\"]","value":{"value":"n@example.com","type":"other"}}`,
			want: `{"emails":[{"value":"n@example.com","type":"other"},{"value":"h@example.com","type":"home"}]}`},
		{name: "elements of a filter by null", before: two, ops: `{"op":"replace","path":"emails[type eq \"work\"]","value":null}`,
			want: `{"emails":[{"value":"h@example.com","type":"home"}]}`},
		{name: "a sub-attribute of the elements of a filter", before: two, ops: `{"op":"replace","path":"emails[type eq \"work\"].display","value":"D"}`,
			want: `{"emails":[{"value":"a@example.com","type":"work","display":"D"},{"value":"b@example.com","type":"work","display":"D"},{"value":"h@example.com","type":"home"}]}`},
		{name: "and by null", before: two, ops: `{"op":"replace","path":"emails[type eq \"work\"].display","value":null}`,
			want: `{"emails":[{"value":"a@example.com","type":"work"},{"value":"b@example.com","type":"work"},{"value":"h@example.com","type":"home"}]}`},
		{name: "a sub-attribute of every element", before: two, ops: `{"op":"replace","path":"emails.display","value":"D"}`,
			want: `{"emails":[{"value":"a@example.com","type":"work","display":"D"},{"value":"b@example.com","type":"work","display":"D"},{"value":"h@example.com","type":"home","display":"D"}]}`},
		{name: "a sub-attribute of no element", ops: `{"op":"replace","path":"emails.value","value":"n@example.com"}`, want: `{"emails":[{"value":"n@example.com"}]}`},
		{name: "null as a sub-attribute of no element", ops: `{"op":"replace","path":"emails.value","value":null}`},
		{name: "the primary moves", before: `{"emails":[{"value":"a@example.com","type":"work"},{"value":"h@example.com","type":"home","primary":true}]}`,
			ops:  `{"op":"replace","path":"emails[type eq \"work\"].primary","value":true}`,
			want: `{"emails":[{"value":"a@example.com","type":"work","primary":true},{"value":"h@example.com","type":"home","primary":false}]}`},
		{name: "without a path", before: two, ops: `{"op":"replace","value":{"title":"Dr","emails":[{"value":"n@example.com"}],"userName":"ana"}}`,
			want: `{"title":"Dr","emails":[{"value":"n@example.com"}]}`},
		{name: "without a path, null unsets", before: `{"title":"Dr","active":true}`, ops: `{"op":"replace","value":{"title":null}}`, want: `{"active":true}`},
		{name: "an extension by null", before: `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"Ops"}}`,
			ops: `{"op":"replace","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User","value":null}`},
		{name: "the last attribute of an extension by null", before: `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"manager":{"value":"m1"}}}`,
			ops: `{"op":"replace","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value","value":null}`},
		{name: "a new manager takes the $ref of the old one away",
			before: `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"manager":{"value":"m1","$ref":"../Users/m1"}}}`,
			ops:    `{"op":"replace","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value","value":"m2"}`,
			want:   `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"manager":{"value":"m2"}}}`},
		{name: "unless the request writes it",
			before: `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"manager":{"value":"m1","$ref":"../Users/m1"}}}`,
			ops:    `{"op":"replace","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager","value":{"value":"m2","$ref":"../Users/m2"}}`,
			want:   `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"manager":{"value":"m2","$ref":"../Users/m2"}}}`},
		{name: "read-only sub-attributes inside a value are ignored",
			ops:  `{"op":"replace","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager","value":{"value":"m2","displayName":"Max"}}`,
			want: `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"manager":{"value":"m2"}}}`},
		{name: "a required attribute by null", ops: `{"op":"replace","path":"userName","value":null}`, err: "invalidValue: Operations[0]: userName: is required"},
		{name: "a required attribute by null, without a path", ops: `{"op":"replace","value":{"userName":null}}`, err: "invalidValue: Operations[0]: userName: is required"},
		{name: "a filter that is more than equalities, without a match", before: two, ops: `{"op":"replace","path":"emails[value sw \"x\"].display","value":"D"}`,
			err: "noTarget: Operations[0]: emails: no value matches the filter"},
	})
}

// TestRemove is RFC 7644 §3.5.2.2.
func TestRemove(t *testing.T) {
	const two = `{"emails":[{"value":"a@example.com","type":"work","display":"A"},{"value":"h@example.com","type":"home"}]}`
	run(t, user, lenient, []row{
		{name: "an element goes with its value", before: two, ops: `{"op":"remove","path":"emails[type eq \"work\"].value"}`, want: `{"emails":[{"value":"h@example.com","type":"home"}]}`},
	})
	both(t, user, []row{
		{name: "a single value", before: `{"title":"Dr"}`, ops: `{"op":"remove","path":"title"}`},
		{name: "what is not there", ops: `{"op":"remove","path":"title"},{"op":"remove","path":"name.givenName"},{"op":"remove","path":"emails"},{"op":"remove","path":"emails.display"}`},
		{name: "a sub-attribute", before: `{"name":{"familyName":"Jensen","givenName":"B"}}`, ops: `{"op":"remove","path":"name.givenName"}`, want: `{"name":{"familyName":"Jensen"}}`},
		{name: "the last sub-attribute", before: `{"name":{"givenName":"B"}}`, ops: `{"op":"remove","path":"name.givenName"}`},
		{name: "a list", before: two, ops: `{"op":"remove","path":"emails"}`},
		{name: "the elements of a filter", before: two, ops: `{"op":"remove","path":"emails[type eq \"work\"]"}`, want: `{"emails":[{"value":"h@example.com","type":"home"}]}`},
		{name: "all elements, by a filter", before: two, ops: `{"op":"remove","path":"emails[value pr]"}`},
		{name: "a sub-attribute of the elements of a filter", before: two, ops: `{"op":"remove","path":"emails[type eq \"work\"].display"}`,
			want: `{"emails":[{"value":"a@example.com","type":"work"},{"value":"h@example.com","type":"home"}]}`},
		{name: "a sub-attribute of every element", before: two, ops: `{"op":"remove","path":"emails.type"}`,
			want: `{"emails":[{"value":"a@example.com","display":"A"},{"value":"h@example.com"}]}`},
		{name: "or with the last of what it was about", before: `{"addresses":[{"locality":"Malmö","country":"SE","type":"work"}]}`,
			ops:  `{"op":"remove","path":"addresses.locality"}`,
			want: `{"addresses":[{"country":"SE","type":"work"}]}`},
		{name: "but not with a label", before: `{"roles":[{"display":"Admin","type":"x"},{"type":"y"}]}`, ops: `{"op":"remove","path":"roles.type"}`, want: `{"roles":[{"display":"Admin"}]}`},
		{name: "an extension", before: `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"Ops"}}`,
			ops: `{"op":"remove","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"}`},
		{name: "the last attribute of an extension", before: `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"Ops"}}`,
			ops: `{"op":"remove","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department"}`},
		{name: "a password", before: `{"password":"t1meMa$heen"}`, ops: `{"op":"remove","path":"password"}`},
		{name: "without a path", ops: `{"op":"remove"}`, err: "noTarget: Operations[0]: a remove needs a path"},
		{name: "a required attribute", ops: `{"op":"remove","path":"userName"}`, err: "mutability: Operations[0]: userName: is required"},
		{name: "schemas", ops: `{"op":"remove","path":"schemas"}`, err: "mutability: Operations[0]: schemas: is required"},
	})
}

// TestPaths is about paths that do not lead anywhere.
func TestPaths(t *testing.T) {
	both(t, user, []row{
		{name: "an unknown attribute", ops: `{"op":"add","path":"shoeSize","value":"44"}`,
			err: `invalidPath: Operations[0].path: unknown attribute "shoeSize"`},
		{name: "an unknown sub-attribute", ops: `{"op":"add","path":"name.maidenName","value":"x"}`,
			err: `invalidPath: Operations[0].path: unknown attribute "name.maidenName"`},
		{name: "an unknown attribute of an extension", ops: `{"op":"add","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:shoeSize","value":"x"}`,
			err: `invalidPath: Operations[0].path: unknown attribute "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:shoeSize"`},
		{name: "an unknown sub-attribute after the brackets", ops: `{"op":"add","path":"emails[type eq \"work\"].colour","value":"x"}`,
			err: `invalidPath: Operations[0].path: unknown attribute "colour" of "emails"`},
		{name: "an unknown attribute between the brackets", ops: `{"op":"add","path":"emails[colour eq \"x\"].value","value":"x"}`,
			err: `invalidFilter: Operations[0].path: unknown attribute "colour" of "emails"`},
		{name: "a filter that does not end", ops: `{"op":"remove","path":"emails[type eq"}`, err: "invalidFilter: Operations[0].path: expected a value"},
		{name: "brackets where none belong", ops: `{"op":"remove","path":"title[value eq \"x\"]"}`,
			err: `invalidPath: Operations[0].path: "title" takes no filter in brackets`},
		{name: "no attribute at all", ops: `{"op":"remove","path":" !"}`, err: "invalidPath: Operations[0].path: expected an attribute"},
	})
	_, err := Apply(user, base(user), []Operation{{Remove, "shoeSize", nil}}, lenient)
	var e *Error
	if !errors.As(err, &e) || e.Path != "shoeSize" || e.Index != 0 || e.Kind != InvalidPath {
		t.Errorf("remove shoeSize: %#v, want an Error with Index 0 and Path shoeSize", err)
	}
	for _, path := range []string{"a b", strings.Repeat("x", 200)} {
		if _, err := Apply(user, base(user), []Operation{{Remove, path, nil}}, lenient); !errors.As(err, &e) || e.Path != "" {
			t.Errorf("remove %q: %#v, want an Error without Path", path, err)
		}
	}
	if _, err := Apply(user, base(user), []Operation{{Op(7), "title", nil}}, lenient); say(t, err) != "invalidSyntax: Operations[0]: expected add, replace or remove" {
		t.Errorf("an unknown Op: %v", err)
	}
}

// TestMutability is about attributes that may not be written, and those that
// may be written once.
func TestMutability(t *testing.T) {
	both(t, user, []row{
		{name: "meta", ops: `{"op":"replace","path":"meta.created","value":"2020-01-01T00:00:00Z"}`, err: "mutability: Operations[0]: meta.created: is read-only"},
		{name: "another id", ops: `{"op":"replace","path":"id","value":"x"}`, err: "mutability: Operations[0]: id: is read-only"},
		{name: "removing the id", ops: `{"op":"remove","path":"id"}`, err: "mutability: Operations[0]: id: is read-only"},
		{name: "a sub-attribute by its path", ops: `{"op":"replace","path":"manager.displayName","value":"Max"}`,
			err: "mutability: Operations[0]: urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.displayName: is read-only"},
	})
	const (
		serial = `{"serial":"s1","maker":{"name":"Acme"},"seal":[{"value":"x"}],"ports":[{"value":"eth0","mac":"aa","seen":"now"}]}`
		kept   = " is immutable and already has a value"
	)
	both(t, device, []row{
		{name: "set when absent", ops: `{"op":"add","path":"serial","value":"s1"},{"op":"replace","path":"maker","value":{"name":"Acme"}},{"op":"add","path":"seal","value":[{"value":"x"}]}`,
			want: `{"serial":"s1","maker":{"name":"Acme"},"seal":[{"value":"x"}]}`},
		{name: "set to what it is", before: serial, want: serial,
			ops: `{"op":"replace","path":"serial","value":"s1"},{"op":"add","path":"maker.name","value":"Acme"},{"op":"add","path":"seal","value":[{"value":"x"}]},{"op":"replace","path":"ports[value eq \"eth0\"].mac","value":"aa"}`},
		{name: "a decimal that is read back as an integer", before: `{"weight":3}`, ops: `{"op":"add","path":"weight","value":3.0}`, want: `{"weight":3}`},
		{name: "changed", before: serial, ops: `{"op":"replace","path":"serial","value":"s2"}`, err: "mutability: Operations[0]: serial:" + kept},
		{name: "removed", before: serial, ops: `{"op":"remove","path":"serial"}`, err: "mutability: Operations[0]: serial:" + kept},
		{name: "a complex one changed", before: serial, ops: `{"op":"add","path":"maker.country","value":"SE"}`, err: "mutability: Operations[0]: maker:" + kept},
		{name: "a complex one merged", before: serial, ops: `{"op":"add","path":"maker","value":{"country":"SE"}}`, err: "mutability: Operations[0]: maker:" + kept},
		{name: "a list appended to", before: serial, ops: `{"op":"add","path":"seal","value":[{"value":"y"}]}`, err: "mutability: Operations[0]: seal:" + kept},
		{name: "an element of a list changed", before: serial, ops: `{"op":"replace","path":"seal.type","value":"y"}`, err: "mutability: Operations[0]: seal:" + kept},
		{name: "in an element: set when absent", before: `{"ports":[{"value":"eth0"}]}`, ops: `{"op":"add","path":"ports[value eq \"eth0\"]","value":{"mac":"bb"}}`,
			want: `{"ports":[{"value":"eth0","mac":"bb"}]}`},
		{name: "in an element: changed", before: serial, ops: `{"op":"replace","path":"ports.mac","value":"bb"}`, err: "mutability: Operations[0]: ports.mac:" + kept},
		{name: "in an element: merged", before: serial, ops: `{"op":"add","path":"ports","value":[{"value":"eth0","mac":"bb"}]}`, err: "mutability: Operations[0]: ports.mac:" + kept},
		{name: "in an element: removed", before: serial, ops: `{"op":"remove","path":"ports.mac"}`, err: "mutability: Operations[0]: ports.mac:" + kept},
		{name: "in an element that is replaced: stays", before: serial, ops: `{"op":"replace","path":"ports[value eq \"eth0\"]","value":{"value":"eth1","speed":10}}`,
			want: `{"serial":"s1","maker":{"name":"Acme"},"seal":[{"value":"x"}],"ports":[{"value":"eth1","mac":"aa","seen":"now","speed":10}]}`},
		{name: "in an element that is replaced: changed", before: serial, ops: `{"op":"replace","path":"ports[value eq \"eth0\"]","value":{"value":"eth0","mac":"bb"}}`,
			err: "mutability: Operations[0]: ports.mac:" + kept},
		{name: "an element with it may go", before: serial, ops: `{"op":"replace","path":"ports","value":[{"value":"eth9"}]}`,
			want: `{"serial":"s1","maker":{"name":"Acme"},"seal":[{"value":"x"}],"ports":[{"value":"eth9"}]}`},
	})
}

// TestRequired is about what must not go missing below the top.
func TestRequired(t *testing.T) {
	both(t, device, []row{
		{name: "the last element of a required list", ops: `{"op":"remove","path":"ports[value eq \"eth0\"]"}`, err: "mutability: Operations[0]: ports: is required"},
		{name: "a required list, emptied", ops: `{"op":"replace","path":"ports","value":[]}`, err: "invalidValue: Operations[0]: ports: is required"},
		{name: "a required sub-attribute", ops: `{"op":"remove","path":"ports[value eq \"eth0\"].value"}`, err: "mutability: Operations[0]: ports.value: is required"},
		{name: "a required sub-attribute, by null", ops: `{"op":"replace","path":"ports","value":[{"value":"a"}]},{"op":"add","path":"ports.value","value":null},{"op":"replace","path":"ports.value","value":null}`,
			err: "invalidValue: Operations[2]: ports.value: is required"},
		{name: "a required extension", ops: `{"op":"remove","path":"urn:example:2.0:Lab:shelves"}`, err: "mutability: Operations[0]: urn:example:2.0:Lab: is required"},
		{name: "seen at the end: the last operation that wrote the attribute",
			ops: `{"op":"add","path":"slots","value":1},{"op":"add","path":"place.shelf","value":"3"},{"op":"add","path":"slots","value":2}`,
			err: "invalidValue: Operations[1]: place.room: is required"},
		{name: "or put right before that", ops: `{"op":"add","path":"place.shelf","value":"3"},{"op":"add","path":"place.room","value":"1"}`, want: `{"place":{"room":"1","shelf":"3"}}`},
	})
	// No resource at all is one without anything.
	if _, err := Apply(user, nil, nil, lenient); say(t, err) != "invalidValue: userName: is required" {
		t.Errorf("no attributes: %v", err)
	}
	// What was wrong before the request is nobody's operation.
	_, err := Apply(user, map[string]any{"id": "1"}, []Operation{{Add, "title", "x"}}, lenient)
	if got, want := say(t, err), "invalidValue: userName: is required"; got != want {
		t.Errorf("a resource without userName: got %s, want %s", got, want)
	}
}

// TestLists is about lists that the core schemas do not have: of simple values,
// below an extension, within an element.
func TestLists(t *testing.T) {
	both(t, device, []row{
		{name: "simple values are appended once", before: `{"tags":["a"],"levels":[1,2.5],"flags":[true]}`,
			ops:  `{"op":"add","path":"tags","value":["A","b"]},{"op":"add","path":"levels","value":[2.5,3.5]},{"op":"add","path":"flags","value":[true,false]}`,
			want: `{"tags":["a","b"],"levels":[1,2.5,3.5],"flags":[true,false]}`},
		{name: "and replaced", before: `{"tags":["a"]}`, ops: `{"op":"replace","path":"tags","value":["b"]}`, want: `{"tags":["b"]}`},
		{name: "and removed", before: `{"tags":["a"]}`, ops: `{"op":"remove","path":"tags"}`},
		{name: "in an extension", ops: `{"op":"add","path":"urn:example:2.0:Lab:shelves[value eq \"A\"].row","value":3},{"op":"add","path":"urn:example:2.0:Lab:shelves","value":[{"value":"B"}]}`,
			want: `{"urn:example:2.0:Lab":{"shelves":[{"value":"A","row":3},{"value":"B"}]}}`},
		{name: "within an element", before: `{"ports":[{"value":"eth0","names":["a"]},{"value":"eth1"}]}`,
			ops: `{"op":"add","path":"ports[value eq \"eth0\"].names","value":["b"]},{"op":"add","path":"ports[value eq \"eth1\"].names","value":["c"]},
				{"op":"add","path":"ports[value eq \"eth1\"].names","value":[]}`,
			want: `{"ports":[{"value":"eth0","names":["a","b"]},{"value":"eth1","names":["c"]}]}`},
		{name: "within an element, replaced and removed", before: `{"ports":[{"value":"eth0","names":["a"]},{"value":"eth1","names":["c"]}]}`,
			ops:  `{"op":"replace","path":"ports[value eq \"eth0\"].names","value":["z"]},{"op":"replace","path":"ports[value eq \"eth1\"].names","value":[]}`,
			want: `{"ports":[{"value":"eth0","names":["z"]},{"value":"eth1"}]}`},
		{name: "a value that is a list itself", ops: `{"op":"add","path":"links.value","value":["a","b"]},{"op":"add","path":"links","value":[{"value":["a","b"]},{"value":["b"]}]}`,
			want: `{"links":[{"value":["a","b"]},{"value":["b"]}]}`},
		{name: "a value that is a number is the same value with more to it", before: `{"taps":[{"value":1},{"value":2,"type":"a","note":"cold"}]}`,
			ops:  `{"op":"add","path":"taps","value":[{"value":1,"note":"hot"},{"value":2,"type":"a","note":"warm"},{"value":2,"type":"A"},{"value":3},{"value":3,"note":"new"}]}`,
			want: `{"taps":[{"value":1,"note":"hot"},{"value":2,"type":"a","note":"warm"},{"value":2,"type":"A"},{"value":3,"note":"new"}]}`},
		{name: "a number in an element without a value", before: `{"urn:example:2.0:Lab":{"shelves":[{"row":1}]}}`,
			ops:  `{"op":"add","path":"urn:example:2.0:Lab:shelves","value":[{"row":1},{"row":2}]}`,
			want: `{"urn:example:2.0:Lab":{"shelves":[{"row":1},{"row":2}]}}`},
	})
	run(t, device, lenient, []row{
		{name: "removed by a value that is a number", before: `{"taps":[{"value":1,"type":"a","note":"hot"},{"value":1,"type":"b"},{"value":2,"type":"a"}]}`,
			ops: `{"op":"remove","path":"taps","value":[{"value":1,"type":"a"},{"value":2}]}`, want: `{"taps":[{"value":1,"type":"b"}]}`},
	})
}

// TestStrict is what only Strict mode refuses.
func TestStrict(t *testing.T) {
	const one = `{"emails":[{"value":"h@example.com","type":"home"}]}`
	run(t, user, strict, []row{
		{name: "replace without a match (§3.5.2.3)", before: one, ops: `{"op":"replace","path":"emails[type eq \"work\"].value","value":"x"}`,
			err: "noTarget: Operations[0]: emails: no value matches the filter"},
		{name: "add without a match", before: one, ops: `{"op":"add","path":"emails[type eq \"work\"]","value":{"value":"x"}}`,
			err: "noTarget: Operations[0]: emails: no value matches the filter"},
		{name: "remove without a match", before: one, ops: `{"op":"remove","path":"emails[type eq \"work\"]"}`,
			err: "noTarget: Operations[0]: emails: no value matches the filter"},
		{name: "replaced elements keep nothing", before: one, ops: `{"op":"replace","path":"emails[type eq \"home\"]","value":{"value":"n@example.com"}}`, want: `{"emails":[{"value":"n@example.com"}]}`},
		{name: "what is removed is the sub-attribute alone (§3.5.2.2)", before: one, ops: `{"op":"remove","path":"emails[type eq \"home\"].value"}`, want: `{"emails":[{"type":"home"}]}`},
		{name: "an unknown key", ops: `{"op":"add","value":{"shoeSize":44}}`, err: "invalidPath: Operations[0]: shoeSize: is not an attribute of User"},
		{name: "an unknown sub-attribute", ops: `{"op":"add","path":"name","value":{"maidenName":"x"}}`,
			err: "invalidSyntax: Operations[0]: name: has a sub-attribute that the schema does not define"},
		{name: "an unknown sub-attribute of an element", before: one, ops: `{"op":"add","path":"emails","value":[{"colour":"x"}]}`,
			err: "invalidSyntax: Operations[0]: emails[0]: has a sub-attribute that the schema does not define"},
		{name: "a read-only key", ops: `{"op":"add","value":{"id":"2819c223"}}`, err: "mutability: Operations[0]: id: is read-only"},
		{name: "groups", ops: `{"op":"add","path":"groups","value":[{"value":"g1"}]}`, err: "mutability: Operations[0]: groups: is read-only"},
		{name: "schemas that fit are ignored",
			ops: `{"op":"replace","value":{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"]}}`},
		{name: "schemas that do not fit", ops: `{"op":"replace","value":{"schemas":["urn:example:other"]}}`, err: "invalidValue: Operations[0]: schemas: expected schema URIs of User"},
		{name: "schemas that are attributes", ops: `{"op":"replace","path":"schemas","value":["title"]}`, err: "invalidValue: Operations[0]: schemas: expected schema URIs of User"},
		{name: "schemas that are no list", ops: `{"op":"replace","path":"schemas","value":"x"}`, err: "invalidValue: Operations[0]: schemas: expected a list of schema URIs"},
		{name: "a quoted boolean", ops: `{"op":"replace","path":"active","value":"True"}`, err: "invalidValue: Operations[0]: active: expected a boolean"},
		{name: "a list of one", ops: `{"op":"replace","path":"title","value":["x"]}`, err: "invalidValue: Operations[0]: title: expected a string, not a list"},
		{name: "one object for a list", ops: `{"op":"replace","path":"emails","value":{"value":"x"}}`, err: "invalidValue: Operations[0]: emails: expected a list"},
		{name: "one object for a list, without a path", ops: `{"op":"add","value":{"emails":{"value":"x"}}}`, err: "invalidValue: Operations[0]: emails: expected a list"},
		{name: "one object to add to a list", ops: `{"op":"add","path":"emails","value":{"value":"x"}}`, want: `{"emails":[{"value":"x"}]}`},
		{name: "nothing to add to a list", ops: `{"op":"add","path":"emails","value":null}`, want: `{}`},
		{name: "a bare string for a complex value", ops: `{"op":"add","path":"manager","value":"m1"}`,
			err: "invalidValue: Operations[0]: urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager: expected an object"},
		{name: "a filter on a single value", ops: `{"op":"remove","path":"manager[value eq \"m1\"]"}`,
			err: "invalidPath: Operations[0]: urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager: has one value; a filter selects among several"},
		{name: "the URN of the core schema", ops: `{"op":"add","path":"urn:ietf:params:scim:schemas:core:2.0:User","value":{"title":"x"}}`,
			err: `invalidPath: Operations[0].path: unknown attribute "urn:ietf:params:scim:schemas:core:2.0:User"`},
		{name: "two primary values at once", before: one, ops: `{"op":"add","path":"emails","value":[{"value":"a","primary":true},{"value":"b","primary":true}]}`,
			err: "invalidValue: Operations[0]: emails[2].primary: only one value may be primary"},
		{name: "two primary values at once, one of them the old one", before: `{"emails":[{"value":"a","primary":true}]}`,
			ops: `{"op":"add","path":"emails","value":[{"value":"a","primary":true},{"value":"b","primary":true}]}`,
			err: "invalidValue: Operations[0]: emails[1].primary: only one value may be primary"},
		{name: "keys that are paths: dotted", ops: `{"op":"add","value":{"title":"x","name.givenName":"secret"}}`,
			err: "invalidPath: Operations[0].value: name.givenName: a key of a value is a name, not a path"},
		{name: "keys that are paths: URN and attribute", ops: `{"op":"add","path":"title","value":"x"},{"op":"replace","value":{"` + enterprise + `:department":"secret"}}`,
			err: "invalidPath: Operations[1].value: " + enterprise + ":department: a key of a value is a name, not a path"},
		{name: "keys that are paths: the URN of the core schema", ops: `{"op":"add","value":{"urn:ietf:params:scim:schemas:core:2.0:User:title":"x"}}`,
			err: "invalidPath: Operations[0].value: urn:ietf:params:scim:schemas:core:2.0:User:title: a key of a value is a name, not a path"},
		{name: "keys that are paths: with a filter", ops: `{"op":"add","value":{"emails[type eq \"secret\"].value":"x"}}`,
			err: "invalidPath: Operations[0].value: emails: a key of a value is a name, not a path"},
		{name: "keys that are paths: an extension's attribute without its URN", ops: `{"op":"add","value":{"department":"x"}}`,
			err: "invalidPath: Operations[0].value: department: a key of a value is a name, not a path"},
		{name: "keys that are paths: below an extension", ops: `{"op":"add","value":{` + ext + `{"manager.value":"secret"}}}`,
			err: "invalidPath: Operations[0].value: " + enterprise + ":manager.value: a key of a value is a name, not a path"},
		{name: "keys that are paths: in the value for an extension", ops: `{"op":"add","path":"` + enterprise + `","value":{"manager.value":"secret"}}`,
			err: "invalidPath: Operations[0].value: " + enterprise + ":manager.value: a key of a value is a name, not a path"},
		{name: "a remove with a value", before: one, ops: `{"op":"remove","path":"emails","value":[{"value":"x"}]}`,
			err: "invalidValue: Operations[0]: emails: a remove takes no value; select with a filter"},
		{name: "the empty string", ops: `{"op":"replace","path":"title","value":""}`,
			err: "invalidValue: Operations[0]: title: expected a value, or null to clear it"},
		{name: "several values for one", ops: `{"op":"add","path":"emails.value","value":["a","b"]}`, err: "invalidValue: Operations[0]: emails.value: expected a string, not a list"},
	})
}

// TestApplyOwnsItsResult is about memory: the result is nobody else's.
func TestApplyOwnsItsResult(t *testing.T) {
	before := tree(t, user, `{"emails":[{"value":"a@example.com"}]}`)
	ops := message(t, `{"op":"add","path":"photos","value":[{"value":"http://example.com/a"}]}`, lenient)
	first, err := Apply(user, before, ops, lenient)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"emails", "photos"} {
		first.Attributes[name].([]any)[0].(map[string]any)["value"] = "changed"
	}
	second, err := Apply(user, before, ops, lenient)
	if err != nil {
		t.Fatal(err)
	}
	want := tree(t, user, `{"emails":[{"value":"a@example.com"}],"photos":[{"value":"http://example.com/a"}]}`)
	if d := cmp.Diff(want, second.Attributes); d != "" {
		t.Errorf("the first result was still in use (-want +got):\n%s", d)
	}
}

// TestSchemasFollow is about schemas, which say what the resource has.
func TestSchemasFollow(t *testing.T) {
	with := tree(t, user, `{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"Ops"}}`)
	without := tree(t, user, `{}`)
	for _, tt := range []struct {
		ops    string
		before map[string]any
		want   []any
	}{
		{`{"op":"add","path":"department","value":"Ops"}`, without, []any{schemas.UserURI, schemas.EnterpriseUserURI}},
		{`{"op":"remove","path":"department"}`, with, []any{schemas.UserURI}},
	} {
		got, err := Apply(user, tt.before, message(t, tt.ops, lenient), lenient)
		if d := cmp.Diff(tt.want, got.Attributes["schemas"]); err != nil || d != "" {
			t.Errorf("%s: %v, schemas (-want +got):\n%s", tt.ops, err, d)
		}
	}
}

// both runs the rows in both modes.
func both(t *testing.T, rt *schemas.ResourceType, rows []row) {
	t.Run("lenient", func(t *testing.T) { run(t, rt, lenient, rows) })
	t.Run("strict", func(t *testing.T) { run(t, rt, strict, rows) })
}
