package patch

import (
	"strings"
	"testing"
)

// TestMembers is RFC 7644 §3.5.2 on the members of a group.
func TestMembers(t *testing.T) {
	rows := []row{
		{name: "add", ops: `{"op":"add","path":"members","value":[{"value":"a","display":"Ana"},{"value":"b","type":"Group"}]}`,
			members: []string{`AddMembers {"display":"Ana","value":"a"} {"type":"Group","value":"b"}`}},
		{name: "add nothing", ops: `{"op":"add","path":"members","value":[]},{"op":"add","path":"members","value":null}`},
		{name: "replace", ops: `{"op":"replace","path":"members","value":[{"value":"a"}]}`, members: []string{`ReplaceMembers {"value":"a"}`}},
		{name: "replace by none", ops: `{"op":"replace","path":"members","value":[]},{"op":"replace","path":"members","value":null}`, members: []string{"ReplaceMembers", "ReplaceMembers"}},
		{name: "remove all", ops: `{"op":"remove","path":"members"}`, members: []string{"ReplaceMembers"}},
		{name: "remove one", ops: `{"op":"remove","path":"members[value eq \"a\"]"}`, members: []string{`RemoveMembers {"value":"a"}`}},
		{name: "remove some, by id", ops: `{"op":"remove","path":"members[value eq \"a\" or (value eq \"b\" or value eq \"c\")]"}`,
			members: []string{`RemoveMembers {"value":"a"} {"value":"b"} {"value":"c"}`}},
		{name: "remove some, by something else", ops: `{"op":"remove","path":"members[type eq \"User\"]"},{"op":"remove","path":"members[value eq \"a\" or type eq \"User\"]"},
			{"op":"remove","path":"members[value sw \"a\"]"}`,
			members: []string{`RemoveWhere type eq "User"`, `RemoveWhere value eq "a" or type eq "User"`, `RemoveWhere value sw "a"`}},
		{name: "replace some by null", ops: `{"op":"replace","path":"members[value eq \"a\"]","value":null}`, members: []string{`RemoveMembers {"value":"a"}`}},
		{name: "in the order of the operations", ops: `{"op":"remove","path":"members[value eq \"a\"]"},{"op":"replace","path":"displayName","value":"Crew"},{"op":"add","path":"members","value":[{"value":"b"}]}`,
			members: []string{`RemoveMembers {"value":"a"}`, `AddMembers {"value":"b"}`}},
		{name: "without a path", ops: `{"op":"add","value":{"members":[{"value":"a"}]}},{"op":"replace","value":{"members":[],"displayName":"Crew"}}`,
			members: []string{`AddMembers {"value":"a"}`, "ReplaceMembers"}},
		{name: "one more id", ops: `{"op":"add","path":"members.value","value":"a"}`, members: []string{`AddMembers {"value":"a"}`}},
		{name: "a rename leaves them alone", ops: `{"op":"replace","value":{"displayName":"Crew 2"}}`, want: `{"displayName":"Crew 2"}`},
		{name: "a member without a value", ops: `{"op":"add","path":"members","value":[{"value":"a"},{"display":"Bo"}]}`,
			err: "invalidValue: Operations[0].value[1]: members: a member needs a value"},
		{name: "the same without a path", ops: `{"op":"add","value":{"members":[{}]}}`, err: "invalidValue: Operations[0].value.members[0]: members: a member needs a value"},
		{name: "a member with a wrong value", ops: `{"op":"add","path":"members","value":[{"value":"a"},{"value":{}}]}`,
			err: "invalidValue: Operations[0].value[1]: members.value: expected a string"},
		{name: "no id at all", ops: `{"op":"add","path":"members.value","value":{}}`, err: "invalidValue: Operations[0].value[0]: members.value: expected a string"},
		{name: "what a member is cannot be changed", ops: `{"op":"replace","path":"members[value eq \"a\"].display","value":"x"}`,
			err: "mutability: Operations[0]: members.display: is immutable; remove the member and add another"},
		{name: "nor all at once", ops: `{"op":"add","path":"members.type","value":"User"}`, err: "mutability: Operations[0]: members.type: is immutable; remove the member and add another"},
		{name: "nor their ids", ops: `{"op":"replace","path":"members.value","value":"x"}`, err: "mutability: Operations[0]: members.value: is immutable; remove the member and add another"},
		{name: "nor removed in part", ops: `{"op":"remove","path":"members[value eq \"a\"].value"}`, err: "mutability: Operations[0]: members.value: is immutable; remove the member and add another"},
		{name: "a required attribute", ops: `{"op":"add","path":"members","value":[{"value":"a"}]},{"op":"remove","path":"displayName"}`, err: "mutability: Operations[1]: displayName: is required"},
	}
	both(t, group, rows)
	run(t, group, strict, []row{
		{name: "whether a filter on members matches is not known here", ops: `{"op":"add","path":"members[value eq \"a\"]","value":{"value":"a"}}`,
			err: "noTarget: Operations[0]: members: a filter selects members to replace or remove; add them without one"},
		{name: "replace is a removal, which finds out, and an add", ops: `{"op":"replace","path":"members[value eq \"a\"]","value":{"value":"b"}},{"op":"replace","path":"members[type eq \"User\"]","value":{"value":"c","display":"C"}}`,
			members: []string{`RemoveMembers {"value":"a"} or no target`, `AddMembers {"value":"b"}`, `RemoveWhere type eq "User" or no target`, `AddMembers {"display":"C","value":"c"}`}},
		{name: "each removal is to have a target", ops: `{"op":"remove","path":"members[value eq \"a\"]"},{"op":"remove","path":"members[value eq \"b\"]"}`,
			members: []string{`RemoveMembers {"value":"a"}`, `RemoveMembers {"value":"b"}`}},
		{name: "replace by no member", ops: `{"op":"replace","path":"members[value eq \"a\"]","value":{"display":"A"}}`, err: "invalidValue: Operations[0]: members: a member needs a value"},
		{name: "replace by a list", ops: `{"op":"replace","path":"members[value eq \"a\"]","value":[{"value":"b"}]}`, err: "invalidValue: Operations[0]: members: expected an object"},
		{name: "a remove with a value", ops: `{"op":"remove","path":"members","value":[{"value":"a"}]}`, err: "invalidValue: Operations[0]: members: a remove takes no value; select with a filter"},
		{name: "a remove of ids", ops: `{"op":"remove","path":"members.value","value":"a"}`, err: "mutability: Operations[0]: members.value: is immutable; remove the member and add another"},
		{name: "one object for the list", ops: `{"op":"replace","path":"members","value":{"value":"a"}}`, err: "invalidValue: Operations[0]: members: expected a list"},
		{name: "one object to add", ops: `{"op":"add","path":"members","value":{"value":"a"}}`, members: []string{`AddMembers {"value":"a"}`}},
	})
}

// TestVendorMembers is what clients really send to groups.
func TestVendorMembers(t *testing.T) {
	run(t, group, lenient, []row{
		{name: "E25 Entra: $ref null", ops: `{"op":"Add","path":"members","value":[{"$ref":null,"value":"a"},{"$ref":null,"value":"b"}]}`, members: []string{`AddMembers {"value":"a"} {"value":"b"}`}},
		{name: "E26 Entra, J05 JumpCloud, A01 ssosync: these and no others", ops: `{"op":"Remove","path":"members","value":[{"$ref":null,"value":"a"}]}`, members: []string{`RemoveMembers {"value":"a"}`}},
		{name: "E26 one object", ops: `{"op":"Remove","path":"members","value":{"value":"a"}}`, members: []string{`RemoveMembers {"value":"a"}`}},
		{name: "E26 bare ids", ops: `{"op":"Remove","path":"members","value":["a","b"]}`, members: []string{`RemoveMembers {"value":"a"} {"value":"b"}`}},
		{name: "E26 a list of none is none, not all", ops: `{"op":"Remove","path":"members","value":[]},{"op":"Remove","path":"members","value":[null]}`},
		{name: "E26 with add in one request", ops: `{"op":"Add","path":"members","value":[{"value":"b"}]},{"op":"Remove","path":"members","value":[{"value":"a"}]}`,
			members: []string{`AddMembers {"value":"b"}`, `RemoveMembers {"value":"a"}`}},
		{name: "E27 Entra: one by one", ops: `{"op":"remove","path":"members[value eq \"a\"]"},{"op":"remove","path":"members[value eq \"b\"]"}`,
			members: []string{`RemoveMembers {"value":"a"} {"value":"b"}`}},
		{name: "K03 authentik: one operation for each", ops: `{"op":"add","path":"members","value":[{"value":"a"}]},{"op":"add","path":"members","value":[{"value":"b"}]},
			{"op":"remove","path":"members","value":[{"value":"c"}]},{"op":"add","path":"members","value":[{"value":"d"}]}`,
			members: []string{`AddMembers {"value":"a"} {"value":"b"}`, `RemoveMembers {"value":"c"}`, `AddMembers {"value":"d"}`}},
		{name: "E29 Entra: rename", ops: `{"op":"Replace","path":"displayName","value":"Yard"}`, want: `{"displayName":"Yard"}`},
		{name: "O12 Okta: one leaves, one joins", ops: `{"op":"remove","path":"members[value eq \"a\"]"},{"op":"add","path":"members","value":[{"value":"b","display":"ok3"}]}`,
			members: []string{`RemoveMembers {"value":"a"}`, `AddMembers {"display":"ok3","value":"b"}`}},
		{name: "O13 Okta: full push", ops: `{"op":"replace","value":{"members":[{"value":"a"}],"id":"e9e30dba","displayName":"Crew"}}`, members: []string{`ReplaceMembers {"value":"a"}`}},
		{name: "O13 Okta: a group that became empty", ops: `{"op":"replace","path":"members","value":[]}`, members: []string{"ReplaceMembers"}},
		{name: "J04 JumpCloud: a value and no more", ops: `{"op":"add","path":"members","value":[{"value":"a"}]}`, members: []string{`AddMembers {"value":"a"}`}},
		{name: "K02 authentik: the whole group without members", ops: `{"op":"replace","value":{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"id":"e9e30dba","displayName":"Yard"}}`, want: `{"displayName":"Yard"}`},
		{name: "X06 a group in a group", ops: `{"op":"add","path":"members","value":[{"value":"g2","type":"Group"}]}`, members: []string{`AddMembers {"type":"Group","value":"g2"}`}},
		{name: "X07 one object for the list", ops: `{"op":"add","path":"members","value":{"value":"a"}}`, members: []string{`AddMembers {"value":"a"}`}},
		{name: "SCIM-SDK: members as JSON in a string", ops: `{"op":"replace","path":"members","value":"[{\"value\":\"a\"}]"}`, members: []string{`ReplaceMembers {"value":"a"}`}},
		{name: "nothing to add", ops: `{"op":"add","path":"members","value":""},{"op":"add","path":"members","value":null}`},
		{name: "ids as a list", ops: `{"op":"add","path":"members.value","value":["a","b"]},{"op":"remove","path":"members.value","value":"a"}`, members: []string{`AddMembers {"value":"a"} {"value":"b"}`, `RemoveMembers {"value":"a"}`}},
		{name: "E11 add by a filter", ops: `{"op":"add","path":"members[value eq \"a\"]","value":{"display":"Ana"}},{"op":"add","path":"members[value eq \"b\" and type eq \"User\"]","value":[{}]}`,
			members: []string{`AddMembers {"display":"Ana","value":"a"} {"type":"User","value":"b"}`}},
		{name: "E11 replace by a filter", ops: `{"op":"replace","path":"members[value eq \"a\"]","value":{"value":"b"}},{"op":"replace","path":"members[value eq \"c\"]","value":{"display":"C"}}`,
			members: []string{`RemoveMembers {"value":"a"}`, `AddMembers {"value":"b"} {"display":"C","value":"c"}`}},
		{name: "E11 nothing", ops: `{"op":"add","path":"members[value eq \"a\"]","value":null}`},
		{name: "E11 add cannot change whom the filter names", ops: `{"op":"add","path":"members[value eq \"a\"]","value":{"value":"b"}}`,
			err: "mutability: Operations[0]: members.value: is immutable and already has a value"},
		{name: "replace by a filter that names nobody is a removal, which finds out, and an add",
			ops: `{"op":"remove","path":"members[value eq \"a\"]"},{"op":"replace","path":"members[value eq \"a\" or value eq \"b\"]","value":{"value":"c"}},{"op":"replace","path":"members[type eq \"User\"]","value":[{"value":"d","display":"D"}]}`,
			members: []string{`RemoveMembers {"value":"a"}`, `RemoveMembers {"value":"a"} {"value":"b"} or no target`, `AddMembers {"value":"c"}`,
				`RemoveWhere type eq "User" or no target`, `AddMembers {"display":"D","value":"d"}`}},
		{name: "replace by such a filter and no member", ops: `{"op":"replace","path":"members[type eq \"User\"]","value":{"display":"x"}}`, err: "invalidValue: Operations[0]: members: a member needs a value"},
		{name: "E11 a filter that names nobody", ops: `{"op":"add","path":"members[type eq \"User\"]","value":{"display":"x"}}`,
			err: "noTarget: Operations[0]: members: the filter does not name a member; give members without a filter"},
		{name: "E11 no object", ops: `{"op":"add","path":"members[value eq \"a\"]","value":["a","b"]}`, err: "invalidValue: Operations[0]: members: expected an object"},
	})
}

// TestManyMembers is a path that ConnId's connector makes: one filter with all who go.
func TestManyMembers(t *testing.T) {
	long := func(term string) string {
		return `{"op":"remove","path":"members[` + strings.Repeat(term+` or `, 99) + `value eq \"01a21b10-d307-719c-96ac-8db08b758c49\"]"}`
	}
	const id = `value eq \"01a21b10-d307-719c-96ac-8db08b758c49\"`
	run(t, group, lenient, []row{
		{name: "by id", ops: long(id), members: []string{"RemoveMembers" + strings.Repeat(` {"value":"01a21b10-d307-719c-96ac-8db08b758c49"}`, 100)}},
		{name: "by something else", ops: long(`display eq \"Ana\"`), err: "invalidFilter: Operations[0].path: more than 32 terms"},
		{name: "not of members", ops: strings.ReplaceAll(long(`display pr`), "members[", "nosuch["), err: `invalidPath: Operations[0].path: unknown attribute "nosuch"`},
		{name: "one more than values in an operation", ops: `{"op":"remove","path":"members[` + strings.Repeat(`value eq \"a\" or `, 5000) + `value eq \"a\"]"}`,
			err: "invalidFilter: Operations[0].path: longer than 4096 bytes"},
	})
	run(t, user, lenient, []row{{name: "of what is no members", ops: strings.ReplaceAll(long(id), "members[", "emails["), err: "invalidFilter: Operations[0].path: longer than 4096 bytes"}})
	run(t, group, strict, []row{{name: "not for a strict client", ops: long(id), err: "invalidFilter: Operations[0].path: longer than 4096 bytes"}})
}

// TestOrigin is about changes that several operations make together.
func TestOrigin(t *testing.T) {
	ops := message(t, `{"op":"replace","path":"displayName","value":"Yard"},{"op":"add","path":"members","value":[{"value":"a"},{"value":"b"}]},
		{"op":"add","path":"members","value":[]},{"op":"add","path":"members","value":[{"value":"c"}]},{"op":"add","path":"members","value":[{"value":"d"},{"value":"e"}]}`, lenient)
	res, err := Apply(group, tree(t, group, `{}`), ops, lenient)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Members) != 1 {
		t.Fatalf("%d changes, want 1", len(res.Members))
	}
	for i, want := range [][2]int{{1, 0}, {1, 1}, {3, 0}, {4, 0}, {4, 1}} {
		if op, at := res.Members[0].Origin(i); op != want[0] || at != want[1] {
			t.Errorf("member %d comes from Operations[%d], place %d; want %v", i, op, at, want)
		}
	}
}
