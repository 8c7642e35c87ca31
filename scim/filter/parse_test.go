package filter

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/schemas"
)

// Short forms for the expressions that tests expect.
func str(rt *schemas.ResourceType, path string, op Op, s string) Expr {
	a := rt.Lookup(path)
	return Compare{Attr: a, Op: op, Value: a.Key(s), Text: s}
}

func val(rt *schemas.ResourceType, path string, op Op, v any) Expr {
	return Compare{Attr: rt.Lookup(path), Op: op, Value: v}
}

func pr(rt *schemas.ResourceType, path string) Expr { return Present{Attr: rt.Lookup(path)} }

func in(rt *schemas.ResourceType, path string, e Expr) Expr { return ValuePath{rt.Lookup(path), e} }

func TestParse(t *testing.T) {
	const ent = schemas.EnterpriseUserURI
	var (
		ana     = str(user, "userName", Equal, "ana")
		title   = pr(user, "title")
		active  = pr(user, "active")
		nick    = pr(user, "nickName")
		work    = str(user, "emails.type", Equal, "work")
		home    = str(user, "emails.type", Equal, "home")
		corp    = str(user, "emails.value", Contains, "@x")
		primary = val(user, "emails.primary", Equal, true)
		manager = str(user, ent+":manager.value", Equal, "26118915")
	)
	tests := []struct {
		text string
		want Expr
	}{
		// RFC 7644 §3.4.2.2, the examples.
		{`userName eq "bjensen"`, str(user, "userName", Equal, "bjensen")},
		{`name.familyName co "O'Malley"`, str(user, "name.familyName", Contains, "O'Malley")},
		{`userName sw "J"`, str(user, "userName", StartsWith, "J")},
		{`urn:ietf:params:scim:schemas:core:2.0:User:userName sw "J"`, str(user, "userName", StartsWith, "J")},
		{`title pr`, title},
		{`meta.lastModified gt "2011-05-13T04:42:34Z"`, Compare{Attr: user.Lookup("meta.lastModified"), Op: Greater,
			Value: time.Date(2011, 5, 13, 4, 42, 34, 0, time.UTC), Text: "2011-05-13T04:42:34Z"}},
		{`title pr and userType eq "Employee"`, And{title, str(user, "userType", Equal, "Employee")}},
		{`title pr or userType eq "Intern"`, Or{title, str(user, "userType", Equal, "Intern")}},
		{`schemas eq "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"`, str(user, "schemas", Equal, ent)},
		{`userType eq "Employee" and (emails co "example.com" or emails.value co "example.org")`,
			And{str(user, "userType", Equal, "Employee"),
				Or{str(user, "emails.value", Contains, "example.com"), str(user, "emails.value", Contains, "example.org")}}},
		{`userType ne "Employee" and not (emails co "example.com" or emails.value co "example.org")`,
			And{str(user, "userType", NotEqual, "Employee"),
				Not{Or{str(user, "emails.value", Contains, "example.com"), str(user, "emails.value", Contains, "example.org")}}}},
		{`userType eq "Employee" and (emails.type eq "work")`, And{str(user, "userType", Equal, "Employee"), work}},
		{`userType eq "Employee" and emails[type eq "work" and value co "@x"]`,
			And{str(user, "userType", Equal, "Employee"), in(user, "emails", And{work, corp})}},
		{`emails[type eq "work" and value co "@x"] or ims[type eq "xmpp"]`,
			Or{in(user, "emails", And{work, corp}), in(user, "ims", str(user, "ims.type", Equal, "xmpp"))}},

		// Precedence: not, and, or. Nested lists of one kind become one list.
		{`title pr or active pr and nickName pr`, Or{title, And{active, nick}}},
		{`title pr and active pr or nickName pr`, Or{And{title, active}, nick}},
		{`(title pr or active pr) and nickName pr`, And{Or{title, active}, nick}},
		{`not (title pr) and active pr or nickName pr`, Or{And{Not{title}, active}, nick}},
		{`title pr and (active pr and nickName pr)`, And{title, active, nick}},
		{`(title pr or active pr) or (nickName pr or title pr)`, Or{title, active, nick, title}},
		{`((title pr))`, title},
		{`not (not (title pr))`, Not{Not{title}}},
		{`(title pr and active pr) or title pr`, Or{And{title, active}, title}},

		// Everything that is a word goes in any case, and spaces come in any number.
		{`USERNAME EQ "ana"`, ana},
		{`TITLE PR AND NOT (Active pR) oR nickname Pr`, Or{And{title, Not{active}}, nick}},
		{`  title   pr   and   (  active   pr  )  `, And{title, active}},
		{`not(title pr)`, Not{title}},
		{`not   (title pr)`, Not{title}},
		{`URN:IETF:PARAMS:SCIM:SCHEMAS:CORE:2.0:USER:USERNAME eq "ana"`, ana},

		// Operators.
		{`nickName ne "a"`, str(user, "nickName", NotEqual, "a")},
		{`nickName ew "a"`, str(user, "nickName", EndsWith, "a")},
		{`nickName ge "a"`, str(user, "nickName", GreaterOrEqual, "a")},
		{`nickName lt "a"`, str(user, "nickName", Less, "a")},
		{`nickName le "a"`, str(user, "nickName", LessOrEqual, "a")},
		{`profileUrl ew "/x"`, str(user, "profileUrl", EndsWith, "/x")},
		{`x509Certificates.value eq "AAAA"`, str(user, "x509Certificates.value", Equal, "AAAA")},

		// Strings: the comparison form is folded, the text is not.
		{`userName eq "ANA"`, Compare{Attr: user.Lookup("userName"), Op: Equal, Value: "ana", Text: "ANA"}},
		{`externalId eq "ANA"`, Compare{Attr: user.Lookup("externalId"), Op: Equal, Value: "ANA", Text: "ANA"}},
		{`userName eq ""`, str(user, "userName", Equal, "")},
		{`userName eq "a\"b\\c\/d\b\f\n\r\t"`, str(user, "userName", Equal, "a\"b\\c/d\b\f\n\r\t")},
		{`userName eq "\u0041\u00e5\u20AC\uD83D\uDE00!"`, str(user, "userName", Equal, "Aå€😀!")},
		{`userName eq "åsa 😀"`, str(user, "userName", Equal, "åsa 😀")},
		{`userName eq ") or (title pr"`, str(user, "userName", Equal, ") or (title pr")},

		// Booleans in quotes and in any case.
		{`active eq true`, val(user, "active", Equal, true)},
		{`active eq TRUE`, val(user, "active", Equal, true)},
		{`active ne False`, val(user, "active", NotEqual, false)},
		{`active eq "True"`, val(user, "active", Equal, true)},
		{`active eq "false"`, val(user, "active", Equal, false)},
		{`roles[primary eq "True"]`, in(user, "roles", val(user, "roles.primary", Equal, true))},

		// Null is the absence of a value.
		{`title eq null`, Not{title}},
		{`title ne NULL`, title},
		{`name eq null`, Not{pr(user, "name")}},
		{`manager ne null`, pr(user, "manager")},
		{`emails[value eq null]`, in(user, "emails", Not{pr(user, "emails.value")})},

		// Complex attributes, extensions and their bare names.
		{`emails co "@x"`, corp},
		{`emails pr`, pr(user, "emails")},
		{`name pr`, pr(user, "name")},
		{`manager eq "26118915"`, manager},
		{`manager.value eq "26118915"`, manager},
		{ent + `:manager eq "26118915"`, manager},
		{ent + `:manager.value eq "26118915"`, manager},
		{strings.ToUpper(ent) + `:Manager.VALUE eq "26118915"`, manager},
		{`department eq "R"`, str(user, ent+":department", Equal, "R")},
		{ent + ` pr`, pr(user, ent)},
		{`groups.$ref ew "/x"`, str(user, "groups.$ref", EndsWith, "/x")},

		// Value paths.
		{`emails[type eq "work"]`, in(user, "emails", work)},
		{`emails[ type eq "work" ]`, in(user, "emails", work)},
		{`EMAILS[TYPE eq "work"]`, in(user, "emails", work)},
		{`emails[type eq "work" and (value co "@x" or not (primary eq true))]`,
			in(user, "emails", And{work, Or{corp, Not{primary}}})},
		{`emails[type eq "work" and value co "@x" and primary eq true]`, in(user, "emails", And{work, corp, primary})},
		{`not (emails[type eq "work"])`, Not{in(user, "emails", work)}},
		{`name[givenName eq "a"]`, in(user, "name", str(user, "name.givenName", Equal, "a"))},
		{`manager[value eq "26118915"]`, in(user, "manager", manager)},
		{ent + `:manager[value eq "26118915"]`, in(user, "manager", manager)},

		// The comparison after the bracket belongs to the same element.
		{`emails[type eq "work"].value co "@x"`, in(user, "emails", And{work, corp})},
		{`emails[type eq "work" and primary eq true].Value co "@x"`, in(user, "emails", And{work, primary, corp})},
		{`emails[type eq "work" or type eq "home"].value co "@x"`, in(user, "emails", And{Or{work, home}, corp})},
		{`emails[type eq "work"].value pr and title pr`, And{in(user, "emails", And{work, pr(user, "emails.value")}), title}},
		{`emails[type eq "work"].value eq null`, in(user, "emails", And{work, Not{pr(user, "emails.value")}})},
		{`name[givenName pr].familyName pr`, in(user, "name", And{pr(user, "name.givenName"), pr(user, "name.familyName")})},
	}
	for _, test := range tests {
		got, err := Parse(test.text, user, DefaultLimits)
		if err != nil {
			t.Errorf("Parse(%q): %v", test.text, err)
		} else if d := cmp.Diff(test.want, got, byPointer); d != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", test.text, d)
		}
	}
}

func TestParseTypes(t *testing.T) {
	tests := []struct {
		rt   *schemas.ResourceType
		text string
		want Expr
	}{
		{group, `members eq "u"`, str(group, "members.value", Equal, "u")},
		{group, `id eq "g" and members[value eq "u"]`,
			And{str(group, "id", Equal, "g"), in(group, "members", str(group, "members.value", Equal, "u"))}},
		{device, `slots eq 5`, val(device, "slots", Equal, int64(5))},
		{device, `slots gt -9223372036854775808`, val(device, "slots", Greater, int64(-1<<63))},
		{device, `slots eq -0`, val(device, "slots", Equal, int64(0))},
		{device, `weight le 5`, val(device, "weight", LessOrEqual, 5.0)},
		{device, `weight ge -0.5E+1`, val(device, "weight", GreaterOrEqual, -5.0)},
		{device, `weight lt 1e-2`, val(device, "weight", Less, 0.01)},
		{device, `(weight lt 10)`, val(device, "weight", Less, 10.0)},
		{device, `levels ne 1`, val(device, "levels", NotEqual, int64(1))},
		{device, `ports[number eq 80]`, in(device, "ports", val(device, "ports.number", Equal, int64(80)))},
		{device, `shelves eq "a"`, str(device, "shelves.value", Equal, "a")},
		{device, `urn:example:my-co:2.0:Lab:shelves[row eq 1]`, in(device, "shelves", val(device, "shelves.row", Equal, int64(1)))},
		{device, `urn:example:my-co:2.0:Lab:online eq "x"`, str(device, "urn:example:my-co:2.0:Lab:online", Equal, "x")},
		{device, `bought eq "2024-02-29T12:00:00"`, Compare{Attr: device.Lookup("bought"), Op: Equal,
			Value: time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC), Text: "2024-02-29T12:00:00"}},
		{device, `bought lt "2024-02-29T12:00:00.5+02:00"`, Compare{Attr: device.Lookup("bought"), Op: Less,
			Value: time.Date(2024, 2, 29, 10, 0, 0, 5e8, time.UTC), Text: "2024-02-29T12:00:00.5+02:00"}},
		{device, `bought lt "2024-02-29T12:00:00.5+0200"`, Compare{Attr: device.Lookup("bought"), Op: Less,
			Value: time.Date(2024, 2, 29, 10, 0, 0, 5e8, time.UTC), Text: "2024-02-29T12:00:00.5+02:00"}},
		{device, `bought lt "2024-02-29T12:00:00.5 02:00"`, Compare{Attr: device.Lookup("bought"), Op: Less,
			Value: time.Date(2024, 2, 29, 10, 0, 0, 5e8, time.UTC), Text: "2024-02-29T12:00:00.5+02:00"}},
		{device, `bought lt "2024-02-29T12:00:00.5 0200"`, Compare{Attr: device.Lookup("bought"), Op: Less,
			Value: time.Date(2024, 2, 29, 10, 0, 0, 5e8, time.UTC), Text: "2024-02-29T12:00:00.5+02:00"}},
		{device, `bought lt "2024-02-29T12:00:00-0930"`, Compare{Attr: device.Lookup("bought"), Op: Less,
			Value: time.Date(2024, 2, 29, 21, 30, 0, 0, time.UTC), Text: "2024-02-29T12:00:00-09:30"}},
		{device, `vault pr`, pr(device, "vault")},
	}
	for _, test := range tests {
		got, err := Parse(test.text, test.rt, DefaultLimits)
		if err != nil {
			t.Errorf("Parse(%q): %v", test.text, err)
		} else if d := cmp.Diff(test.want, got, byPointer); d != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", test.text, d)
		}
	}
}

func TestParseErrors(t *testing.T) {
	const ent = schemas.EnterpriseUserURI
	tests := []struct {
		rt   *schemas.ResourceType
		text string
		want string
	}{
		// Grammar.
		{user, ``, `at offset 0: the filter is empty`},
		{user, `   `, `at offset 3: the filter is empty`},
		{user, `"ana" eq userName`, `at offset 0: expected an attribute`},
		{user, `å pr`, `at offset 0: expected an attribute`},
		{user, `and`, `at offset 0: unknown attribute "and"`},
		{user, `userName`, `at offset 8: expected an operator`},
		{user, `userName is "ana"`, `at offset 9: expected an operator`},
		{user, `userName eqq "ana"`, `at offset 9: expected an operator`},
		{user, `userName "ana"`, `at offset 9: expected an operator`},
		{user, `userName=eq "ana"`, `at offset 8: expected a space`},
		{user, `userName eq"ana"`, `at offset 11: expected a space`},
		{user, `userName eq`, `at offset 11: expected a value`},
		{user, `userName eq )`, `at offset 12: expected a value`},
		{user, `userName eq hunter2`, `at offset 12: userName: expected a string in double quotes`},
		{user, `userName eq {}`, `at offset 12: userName: expected a string in double quotes`},
		{user, "userName\teq \"ana\"", `at offset 8: expected a space`},
		{user, `title pr "x"`, `at offset 9: expected "and" or "or"`},
		{user, `title pr)`, `at offset 8: expected "and" or "or"`},
		{user, `title pr xor active pr`, `at offset 9: expected "and" or "or"`},
		{user, `title eq "a"and active pr`, `at offset 12: expected "and" or "or"`},
		{user, `title pr and`, `at offset 12: expected an attribute`},
		{user, `title pr and(active pr)`, `at offset 12: expected a space`},
		{user, `title pr or(active pr)`, `at offset 11: expected a space`},
		{user, `title pr or or active pr`, `at offset 12: unknown attribute "or"`},
		{user, `(title pr`, `at offset 9: expected "and", "or" or ")"`},
		{user, `(title pr]`, `at offset 9: expected "and", "or" or ")"`},
		{user, `()`, `at offset 1: expected an attribute`},
		{user, `not title pr`, `at offset 4: expected "(" after "not"`},
		{user, `not`, `at offset 3: expected "(" after "not"`},
		{user, `not (title pr`, `at offset 13: expected "and", "or" or ")"`},

		// Strings.
		{user, `userName eq "ana`, `at offset 16: the string does not end`},
		{user, `userName eq "ana\"`, `at offset 18: the string does not end`},
		{user, `userName eq "\`, `at offset 13: invalid escape`},
		{user, `userName eq "a\x"`, `at offset 14: invalid escape`},
		{user, `userName eq "\u12g4"`, `at offset 13: invalid escape`},
		{user, `userName eq "\u12"`, `at offset 13: invalid escape`},
		{user, `userName eq "\ud800"`, `at offset 13: invalid escape`},
		{user, `userName eq "\ud800\u0041"`, `at offset 13: invalid escape`},
		{user, `userName eq "\ud800\ue000"`, `at offset 13: invalid escape`},
		{user, `userName eq "\udc00\ud800"`, `at offset 13: invalid escape`},
		{user, `userName eq "\u0000"`, `at offset 13: the character U+0000 is not allowed`},
		{user, "userName eq \"\x00\"", `at offset 13: control character in a string`},
		{user, "userName eq \"a\nb\"", `at offset 14: control character in a string`},
		{user, "userName eq \"a\xffb\"", `at offset 14: invalid UTF-8`},
		{user, "userName eq \"a\xed\xa0\x80\"", `at offset 14: invalid UTF-8`},

		// Attributes.
		{user, `nosuch eq "x"`, `at offset 0: unknown attribute "nosuch"`},
		{user, `title pr and name.nosuch eq "x"`, `at offset 13: unknown attribute "name.nosuch"`},
		{user, `name. pr`, `at offset 0: unknown attribute "name."`},
		{user, `.name pr`, `at offset 0: unknown attribute ".name"`},
		{user, `userName.value pr`, `at offset 0: unknown attribute "userName.value"`},
		{user, schemas.UserURI + ` pr`, `at offset 0: unknown attribute "` + schemas.UserURI + `"`},
		{user, `urn:nosuch:x pr`, `at offset 0: unknown attribute "urn:nosuch:x"`},
		{user, strings.Repeat("a", 5000) + ` pr`, `at offset 0: unknown attribute "` + strings.Repeat("a", 128) + `"`},
		{user, `members eq "x"`, `at offset 0: unknown attribute "members"`},
		{group, `userName eq "x"`, `at offset 0: unknown attribute "userName"`},
		{user, `password eq "hunter2"`, `at offset 0: "password" cannot be used in a filter`},
		{user, `PASSWORD pr`, `at offset 0: "password" cannot be used in a filter`},
		{user, `title pr and password eq null`, `at offset 13: "password" cannot be used in a filter`},
		{device, `vault eq "x"`, `at offset 0: "vault.value" cannot be used in a filter`},
		{device, `vault[value eq "x"]`, `at offset 6: "vault.value" cannot be used in a filter`},
		{device, `ports[number eq 1].secret pr`, `at offset 19: "ports.secret" cannot be used in a filter`},
		{user, `name eq "x"`, `at offset 0: name: expected one of its sub-attributes`},
		{user, ent + ` eq "x"`, `at offset 0: ` + ent + `: expected one of its sub-attributes`},

		// Types.
		{user, `userName eq 5`, `at offset 12: userName: expected a string in double quotes`},
		{user, `userName eq true`, `at offset 12: userName: expected a string in double quotes`},
		{user, `emails eq 5`, `at offset 10: emails.value: expected a string in double quotes`},
		{user, `title gt null`, `at offset 6: title: gt does not apply to null`},
		{user, `active eq "yes"`, `at offset 10: active: expected true or false`},
		{user, `active eq 1`, `at offset 10: active: expected true or false`},
		{user, `active eq ""`, `at offset 10: active: expected true or false`},
		{user, `active eq "falſe"`, `at offset 10: active: expected true or false`},
		{user, `active eq falſe`, `at offset 10: active: expected true or false`},
		{user, `active gt false`, `at offset 7: active: gt does not apply to boolean values`},
		{user, `active co "t"`, `at offset 7: active: co does not apply to boolean values`},
		{device, `key sw "A"`, `at offset 4: key: sw does not apply to binary values`},
		{device, `key le "A"`, `at offset 4: key: le does not apply to binary values`},
		{device, `key eq 1`, `at offset 7: key: expected a string in double quotes`},
		{device, `home eq 1`, `at offset 8: home: expected a string in double quotes`},
		{device, `slots co 5`, `at offset 6: slots: co does not apply to integer values`},
		{device, `slots eq "5"`, `at offset 9: slots: expected an integer`},
		{device, `slots eq 5.0`, `at offset 9: slots: expected an integer`},
		{device, `slots eq 5e0`, `at offset 9: slots: expected an integer`},
		{device, `slots eq 05`, `at offset 9: slots: expected an integer`},
		{device, `slots eq +5`, `at offset 9: slots: expected an integer`},
		{device, `slots eq -`, `at offset 9: slots: expected an integer`},
		{device, `slots eq 9223372036854775808`, `at offset 9: slots: expected an integer`},
		{device, `weight eq "5"`, `at offset 10: weight: expected a number`},
		{device, `weight eq 5.`, `at offset 10: weight: expected a number`},
		{device, `weight eq .5`, `at offset 10: weight: expected a number`},
		{device, `weight eq 5e`, `at offset 10: weight: expected a number`},
		{device, `weight eq 5e+x`, `at offset 10: weight: expected a number`},
		{device, `weight eq 1e999`, `at offset 10: weight: expected a number`},
		{device, `weight eq 0x1p4`, `at offset 10: weight: expected a number`},
		{device, `weight eq Inf`, `at offset 10: weight: expected a number`},
		{device, `weight ew 5`, `at offset 7: weight: ew does not apply to decimal values`},
		{device, `bought eq 5`, `at offset 10: bought: expected a dateTime in double quotes, such as "2008-01-23T04:56:22Z"`},
		{device, `bought eq 2008-01-23T04:56:22Z`, `at offset 10: bought: expected a dateTime in double quotes, such as "2008-01-23T04:56:22Z"`},
		{device, `bought eq "2024-02-30T00:00:00Z"`, `at offset 10: bought: expected a dateTime in double quotes, such as "2008-01-23T04:56:22Z"`},
		{device, `bought eq "2024-02-29T00:00:00 02"`, `at offset 10: bought: expected a dateTime in double quotes, such as "2008-01-23T04:56:22Z"`},
		{device, `bought eq "2024-02-29 00:00:00 0200"`, `at offset 10: bought: expected a dateTime in double quotes, such as "2008-01-23T04:56:22Z"`},
		{device, `bought eq "2024-02-29T00:00:00 "`, `at offset 10: bought: expected a dateTime in double quotes, such as "2008-01-23T04:56:22Z"`},
		{device, `bought co "2024"`, `at offset 7: bought: co does not apply to dateTime values`},

		// Brackets.
		{user, `userName[value eq "x"]`, `at offset 8: "userName" takes no filter in brackets`},
		{user, `schemas[value eq "x"]`, `at offset 7: "schemas" takes no filter in brackets`},
		{user, ent + `[department eq "x"]`, `at offset 58: "` + ent + `" takes no filter in brackets`},
		{user, `nosuch[value eq "x"]`, `at offset 0: unknown attribute "nosuch"`},
		{user, `emails[nosuch eq "x"]`, `at offset 7: unknown attribute "nosuch" of "emails"`},
		{user, `emails[emails.type eq "x"]`, `at offset 7: unknown attribute "emails.type" of "emails"`},
		{user, `emails[type[value eq "x"]]`, `at offset 11: "emails.type" takes no filter in brackets`},
		{user, `emails[]`, `at offset 7: expected an attribute`},
		{user, `emails[type pr`, `at offset 14: expected "and", "or" or "]"`},
		{user, `emails[type pr)`, `at offset 14: expected "and", "or" or "]"`},
		{user, `emails[(type pr]`, `at offset 15: expected "and", "or" or ")"`},
		{user, `emails [type pr]`, `at offset 7: expected an operator`},
		{user, `emails[type eq "work"] eq "x"`, `at offset 23: expected "and" or "or"`},
		{user, `emails[type eq "work"]value eq "x"`, `at offset 22: expected "and" or "or"`},
		{user, `emails[type pr].`, `at offset 16: expected an attribute`},
		{user, `emails[type pr].nosuch pr`, `at offset 16: unknown attribute "nosuch" of "emails"`},
		{user, `emails[type pr].value`, `at offset 21: expected an operator`},
		{user, `emails[type pr].value eq 5`, `at offset 25: emails.value: expected a string in double quotes`},
		{user, `emails[type pr].value[type pr]`, `at offset 21: expected a space`},
	}
	for _, test := range tests {
		e, err := Parse(test.text, test.rt, Limits{})
		if e != nil || err == nil || err.Error() != test.want {
			t.Errorf("Parse(%q) = %v, error %v; want error %s", test.text, e, err, test.want)
		}
		if _, ok := errors.AsType[*SyntaxError](err); !ok {
			t.Errorf("Parse(%q): error is a %T, want a *SyntaxError", test.text, err)
		}
	}
}

// A schema may have a name that no filter can spell; an error shows what a
// filter could.
func TestErrorShowsPathCharactersOnly(t *testing.T) {
	a := &schemas.Attribute{Path: `a"<b>é` + strings.Repeat("c", 200)}
	if got, want := named(a), "ab"+strings.Repeat("c", 121); got != want {
		t.Errorf("named(%q) = %q, want %q", a.Path, got, want)
	}
}

func TestLimits(t *testing.T) {
	nest := func(n int) string { return strings.Repeat("(", n) + "title pr" + strings.Repeat(")", n) }
	nots := func(n int) string { return strings.Repeat("not (", n) + "title pr" + strings.Repeat(")", n) }
	// The bracket is one level and the parentheses in it are the others.
	path := func(n int) string {
		return "emails[" + strings.Repeat("(", n-1) + "type pr" + strings.Repeat(")", n-1) + "]"
	}
	terms := func(sep string) func(int) string {
		return func(n int) string { return strings.TrimSuffix(strings.Repeat("title pr"+sep, n), sep) }
	}
	inside := func(n int) string {
		return "emails[" + strings.TrimSuffix(strings.Repeat("type pr or ", n), " or ") + "]"
	}
	after := func(n int) string {
		return "emails[" + strings.TrimSuffix(strings.Repeat("type pr or ", n-1), " or ") + "].value pr"
	}
	length := func(n int) string { return `title eq "` + strings.Repeat("x", n-11) + `"` }

	tests := []struct {
		name   string
		limits Limits
		n      int
		text   func(int) string
		offset int // of the error at n+1
		msg    string
	}{
		{"parentheses", Limits{Depth: 10}, 10, nest, 10, "nested deeper than 10 levels"},
		{"not", Limits{Depth: 10}, 10, nots, 54, "nested deeper than 10 levels"},
		{"brackets", Limits{Depth: 3}, 3, path, 9, "nested deeper than 3 levels"},
		{"no depth limit", Limits{}, maxDepth, nest, maxDepth, "nested deeper than 10000 levels"},
		{"depth limit out of reach", Limits{Depth: 2 * maxDepth}, maxDepth, nest, maxDepth, "nested deeper than 10000 levels"},
		{"and", Limits{Terms: 32}, 32, terms(" and "), 32 * 13, "more than 32 terms"},
		{"or", Limits{Terms: 32}, 32, terms(" or "), 32 * 12, "more than 32 terms"},
		{"terms in brackets", Limits{Terms: 4}, 4, inside, 7 + 4*11, "more than 4 terms"},
		{"term after brackets", Limits{Terms: 4}, 4, after, 7 + 4*11 - 2, "more than 4 terms"},
		{"length", Limits{Length: 100}, 100, length, 100, "longer than 100 bytes"},
		{"default length", DefaultLimits, 4096, length, 4096, "longer than 4096 bytes"},
		{"default depth", DefaultLimits, 10, nest, 10, "nested deeper than 10 levels"},
		{"default terms", DefaultLimits, 32, terms(" or "), 32 * 12, "more than 32 terms"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, n := range []int{test.n - 1, test.n} {
				if _, err := Parse(test.text(n), user, test.limits); err != nil {
					t.Errorf("Parse of %d: %v", n, err)
				}
			}
			_, err := Parse(test.text(test.n+1), user, test.limits)
			want := &SyntaxError{test.offset, test.msg}
			if d := cmp.Diff(error(want), err); d != "" {
				t.Errorf("Parse of %d (-want +got):\n%s", test.n+1, d)
			}
		})
	}
}

func TestParsePath(t *testing.T) {
	const ent = schemas.EnterpriseUserURI
	sub := func(p string) *schemas.Attribute { return user.Lookup(p) }
	work := str(user, "emails.type", Equal, "work")
	tests := []struct {
		text    string
		want    Path
		printed string // when not text
	}{
		{`userName`, Path{Attr: sub("userName")}, ``},
		{`USERNAME`, Path{Attr: sub("userName")}, `userName`},
		{` userName `, Path{Attr: sub("userName")}, `userName`},
		{`password`, Path{Attr: sub("password")}, ``},
		{`name.givenName`, Path{Attr: sub("name.givenName")}, ``},
		{`emails`, Path{Attr: sub("emails")}, ``},
		{`emails.value`, Path{Attr: sub("emails.value")}, ``},
		{`emails[type eq "work"]`, Path{Attr: sub("emails"), Filter: work}, ``},
		{`emails[type eq "work"].value`, Path{sub("emails"), work, sub("emails.value")}, ``},
		{`Emails[Type EQ "work"].Value`, Path{sub("emails"), work, sub("emails.value")}, `emails[type eq "work"].value`},
		{`emails[type eq "work" or not (value pr)].display`,
			Path{sub("emails"), Or{work, Not{pr(user, "emails.value")}}, sub("emails.display")}, ``},
		{`roles[primary eq "True"].display`,
			Path{sub("roles"), val(user, "roles.primary", Equal, true), sub("roles.display")}, `roles[primary eq true].display`},
		{`groups[value eq "x"].$ref`, Path{sub("groups"), str(user, "groups.value", Equal, "x"), sub("groups.$ref")}, ``},
		{`manager`, Path{Attr: sub(ent + ":manager")}, ent + `:manager`},
		{`manager.value`, Path{Attr: sub(ent + ":manager.value")}, ent + `:manager.value`},
		{`manager[value eq "id"]`, Path{Attr: sub("manager"), Filter: str(user, "manager.value", Equal, "id")},
			ent + `:manager[value eq "id"]`},
		{ent, Path{Attr: sub(ent)}, ``},
		{ent + `:department`, Path{Attr: sub("department")}, ``},
		{schemas.UserURI + `:name.familyName`, Path{Attr: sub("name.familyName")}, `name.familyName`},
		{schemas.UserURI + `:emails[type eq "work"].value`, Path{sub("emails"), work, sub("emails.value")}, `emails[type eq "work"].value`},
	}
	for _, test := range tests {
		got, err := ParsePath(test.text, user, DefaultLimits)
		if err != nil {
			t.Errorf("ParsePath(%q): %v", test.text, err)
			continue
		}
		if d := cmp.Diff(test.want, got, byPointer); d != "" {
			t.Errorf("ParsePath(%q) (-want +got):\n%s", test.text, d)
		}
		printed := test.printed
		if printed == "" {
			printed = test.text
		}
		if got.String() != printed {
			t.Errorf("ParsePath(%q) prints as %q, want %q", test.text, got, printed)
		}
	}
	if got := (Path{}).String(); got != "" {
		t.Errorf("Path{}.String() = %q", got)
	}
}

func TestParsePathErrors(t *testing.T) {
	tests := []struct {
		text   string
		limits Limits
		want   string
	}{
		{``, Limits{}, `at offset 0: the path is empty`},
		{`nosuch`, Limits{}, `at offset 0: unknown attribute "nosuch"`},
		{`[type pr]`, Limits{}, `at offset 0: expected an attribute`},
		{`name.nosuch`, Limits{}, `at offset 0: unknown attribute "name.nosuch"`},
		{`userName eq "x"`, Limits{}, `at offset 9: expected the end of the path`},
		{`emails[type pr].`, Limits{}, `at offset 16: expected an attribute`},
		{`emails[type pr].nosuch`, Limits{}, `at offset 16: unknown attribute "nosuch" of "emails"`},
		{`emails[type pr].value.x`, Limits{}, `at offset 16: unknown attribute "value.x" of "emails"`},
		{`emails[type pr]value`, Limits{}, `at offset 15: expected the end of the path`},
		{`emails[type pr][type pr]`, Limits{}, `at offset 15: expected the end of the path`},
		{`emails[type`, Limits{}, `at offset 11: expected an operator`},
		{`emails[password pr]`, Limits{}, `at offset 7: unknown attribute "password" of "emails"`},
		{`userName[value pr]`, Limits{}, `at offset 8: "userName" takes no filter in brackets`},
		{`emails[type pr]`, Limits{Length: 14}, `at offset 14: longer than 14 bytes`},
		{`emails[((type pr))]`, Limits{Depth: 2}, `at offset 8: nested deeper than 2 levels`},
		{`emails[type pr or value pr]`, Limits{Terms: 1}, `at offset 18: more than 1 terms`},
	}
	for _, test := range tests {
		p, err := ParsePath(test.text, user, test.limits)
		if err == nil || err.Error() != test.want {
			t.Errorf("ParsePath(%q) = %v, error %v; want error %s", test.text, p, err, test.want)
		}
		if p != (Path{}) {
			t.Errorf("ParsePath(%q) = %v with an error", test.text, p)
		}
	}
}
