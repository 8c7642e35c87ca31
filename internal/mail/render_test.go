package mail

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// examples has a message of each kind.
func examples() []Message {
	decided := func(d string) Message {
		return Message{Kind: RoleDecided, To: "ana@example.com", Fields: map[string]string{
			"role": "Lotse", "decision": d, "decider": "Åsa Öberg", "reason": "Enligt överenskommelse.", "link": "https://roster.example.com/roles", "organisation": "",
		}}
	}
	return []Message{
		invitation("ana@example.com"),
		{Kind: ReviewReminder, To: "ana@example.com", Fields: map[string]string{
			"title": "Administratörer 2026", "due": "2026-05-04T08:05:00+02:00", "link": "https://roster.example.com/reviews/1", "organisation": "Fartyg & Söner AB",
		}},
		{Kind: RoleRequest, To: "ana@example.com", Fields: map[string]string{
			"requester": "Bo Ek", "role": "Lotse", "reason": "Jag tar över efter Eva.", "link": "https://roster.example.com/requests/1", "organisation": "Fartyg & Söner AB",
		}},
		decided(Approved), decided(Refused),
		{Kind: Test, To: "ana@example.com"},
	}
}

func TestGolden(t *testing.T) {
	seen := map[Kind]bool{}
	for _, lang := range []string{"en", "sv"} {
		for _, m := range examples() {
			seen[m.Kind] = true
			m.Language = lang
			if err := m.check(); err != nil {
				t.Fatal(m.Kind, err)
			}
			l, err := m.render("en")
			if err != nil {
				t.Fatal(m.Kind, err)
			}
			name := string(m.Kind) + "." + lang
			if d := m.Fields["decision"]; d != "" {
				name = d + "." + lang
			}
			golden(t, name+".txt", l.Subject+"\n\n"+l.Text)
			golden(t, name+".html", l.HTML)
			if l.Language != lang || strings.ContainsAny(l.Subject, "\r\n") {
				t.Errorf("%s: language %q, subject %q", name, l.Language, l.Subject)
			}
		}
	}
	if len(seen) != len(Kinds()) || len(fields) != len(Kinds()) {
		t.Errorf("there are %d kinds with fields, and examples of %d of %d", len(fields), len(seen), len(Kinds()))
	}
}

func TestLanguageOf(t *testing.T) {
	for _, test := range []struct{ preferred, locale, want string }{
		{"", "", ""}, {"sv", "", "sv"}, {"sv-SE", "en-US", "sv"}, {"sv_FI", "", "sv"}, {"en-AU", "sv-SE", "en"},
		{"", "sv-SE", "sv"}, {"fr", "sv-SE", "sv"}, {"fr", "de", ""}, {"da, en-GB;q=0.8, sv;q=0.7", "", "en"}, {"nb", "", ""},
		{"***", "sv", "sv"}, {"not a language", "en", "en"},
	} {
		if got := LanguageOf(test.preferred, test.locale); got != test.want {
			t.Errorf("LanguageOf(%q, %q) = %q, want %q", test.preferred, test.locale, got, test.want)
		}
	}
	for _, test := range []struct{ of, otherwise, want string }{{"", "sv", "sv"}, {"fr", "sv", "sv"}, {"en", "sv", "en"}, {"", "", "en"}} {
		m := Message{Kind: Test, To: "a@example.com", Language: test.of}
		if l, err := m.render(test.otherwise); err != nil || l.Language != test.want {
			t.Errorf("language %q, otherwise %q: %+v, %v", test.of, test.otherwise, l, err)
		}
	}
}

// TestFields: what is wrong with a message is said by Put, and repeats nothing.
func TestFields(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Message)
		field  string
	}{
		"unknown kind":       {func(m *Message) { m.Kind = "spam" }, "kind"},
		"missing":            {func(m *Message) { delete(m.Fields, "link") }, "link"},
		"missing optional":   {func(m *Message) { delete(m.Fields, "message") }, "message"},
		"unknown":            {func(m *Message) { m.Fields["bcc"] = "zqx" }, "bcc"},
		"empty":              {func(m *Message) { m.Fields["inviter"] = " \r\n" }, "inviter"},
		"only invisible":     {func(m *Message) { m.Fields["inviter"] = "\u202e\u200b" }, "inviter"},
		"long":               {func(m *Message) { m.Fields["message"] = strings.Repeat("ö", MaxText+1) }, "message"},
		"not UTF-8":          {func(m *Message) { m.Fields["message"] = "zqx\xff" }, "message"},
		"no date":            {func(m *Message) { m.Fields["expires"] = "zqx" }, "expires"},
		"relative link":      {func(m *Message) { m.Fields["link"] = "/zqx" }, "link"},
		"script":             {func(m *Message) { m.Fields["link"] = "javascript:zqx" }, "link"},
		"link with a quote":  {func(m *Message) { m.Fields["link"] = `https://roster.example.com/"zqx` }, "link"},
		"link with a line":   {func(m *Message) { m.Fields["link"] = "https://roster.example.com/\r\nzqx" }, "link"},
		"link with password": {func(m *Message) { m.Fields["link"] = "https://zqx@roster.example.com/" }, "link"},
		"no decision":        {func(m *Message) { *m = examples()[3]; m.Fields["decision"] = "zqx" }, "decision"},
	} {
		m := invitation("ana@example.com")
		test.change(&m)
		err := m.check()
		e, ok := errors.AsType[*FieldError](err)
		if !ok || e.Field != test.field || strings.Contains(err.Error(), "zqx") {
			t.Errorf("%s: %v, want an error of %s", name, err, test.field)
		}
	}
	m := invitation("ana@example.com")
	m.Fields["message"] = strings.Repeat("ö", MaxText)
	m.Fields["organisation"] = ""
	given := maps.Clone(m.Fields)
	if err := m.check(); err != nil {
		t.Error(err)
	}
	if !maps.Equal(given, m.Fields) {
		t.Error("good fields were changed")
	}
}

func TestAddresses(t *testing.T) {
	for _, good := range []string{"ana@example.com", "a.b+c@example.com", "åsa@example.com", "åsa@exempel.åäö.se", "用户@例子.广告", "o'neil@example.com"} {
		if err := checkAddress(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "ana", "@example.com", "ana@", "Ana <ana@example.com>", "<ana@example.com>", "ana@example.com, eva@example.com", "ana@example.com\r\nBcc: eva@example.com",
		"ana@example.com\x00", "ana@exa mple.com", "ana\u202e@example.com", `"a b"@example.com`, "ana@[127.0.0.1]", "ana@example.com>\nDATA",
		strings.Repeat("a", 250) + "@example.com", "a\xff@example.com", "(x)ana@example.com", "ana@@example.com",
	} {
		if err := checkAddress(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		} else if len(bad) > 3 && strings.Contains(err.Error(), bad) {
			t.Errorf("the error repeats %q", bad)
		}
	}
	for _, from := range []string{"roster@example.com", "Roster <roster@example.com>", `"Åsas Roster, AB" <r@example.com>`} {
		if _, err := ParseFrom(from); err != nil {
			t.Errorf("from %q: %v", from, err)
		}
	}
	for _, from := range []string{"", "Roster", "a@example.com, b@example.com", "Roster\r\nBcc: x@example.com <roster@example.com>", "=?utf-8?q?a=0d=0aBcc:_x?= <r@example.com>"} {
		if a, err := ParseFrom(from); err == nil {
			t.Errorf("from %q is accepted as %v", from, a)
		}
	}
}

func TestDisarm(t *testing.T) {
	for in, want := range map[string]string{
		"see https://evil.example/x?y=1": "see https[:]//evil[.]example/x?y=1",
		"HTTP://EVIL.EXAMPLE":            "HTTP[:]//EVIL[.]EXAMPLE",
		`http:\\evil.example`:            `http[:]\\evil[.]example`,
		"www.evil.example":               "www[.]evil[.]example",
		"evil.example":                   "evil[.]example",
		"t.co/x":                         "t[.]co/x",
		"a.b.co:80":                      "a[.]b[.]co:80",
		"mail eva@evil.example now":      "mail eva@evil[.]example now",
		"evil。example":                   "evil[.]example",
		"mailto:eva@evil.example":        "mailto:eva@evil[.]example",
		"ftp://10.0.0.1/":                "ftp[:]//10.0.0.1/",
		"t.ex. kl. 10.30, bl.a. 1.500 kr, d.v.s. i morgon.": "t.ex. kl. 10.30, bl.a. 1.500 kr, d.v.s. i morgon.",
		"Vi ses. Hej då!": "Vi ses. Hej då!",
	} {
		if got := disarm(in); got != want {
			t.Errorf("disarm(%q) = %q, want %q", in, got, want)
		}
	}
}

var (
	anyLink = regexp.MustCompile(`(?i)(https?|ftp)://[^\s"<]+|href="([^"]*)"`)
	anyURL  = regexp.MustCompile(`(?i)[a-z]+://`)
	anyTag  = regexp.MustCompile(`<([a-zA-Z]+)`)
)

// TestHostile: whatever somebody writes is neither markup, nor a link, nor a header.
func TestHostile(t *testing.T) {
	hostile := []string{
		`<script>alert(1)</script><img src=x onerror=alert(1)>`, `</blockquote></div><a href="https://evil.example">here</a>`,
		`"><a href='https://evil.example'>`, "{{.link}} {{template \"top\" .}}", "https://evil.example/login www.evil.example evil.example eva@evil.example",
		"x\r\nBcc: eva@evil.example\r\n\r\nbody", "x\nSubject: y", "a\u2028b\u0085c\vd", "\u202egnp.exe", "=?utf-8?q?=0d=0aBcc:_x@evil.example?=",
		"-- \nbye", "\x00\x07\x1b[31m", "<a\thref=https://evil.example>", "&lt;b&gt; &#60;b&#62;", "[here](https://evil.example)",
	}
	for _, evil := range hostile {
		for _, m := range examples() {
			wrote := false
			for _, f := range fields[m.Kind] {
				if f.sort == line || f.sort == text {
					m.Fields[f.name], wrote = evil, true
				}
			}
			if !wrote {
				continue
			}
			for _, lang := range []string{"en", "sv"} {
				m.Language = lang
				if err := m.check(); err != nil {
					t.Fatalf("%s of %q: %v", m.Kind, evil, err)
				}
				l, err := m.render("en")
				if err != nil {
					t.Fatalf("%s of %q: %v", m.Kind, evil, err)
				}
				if strings.ContainsFunc(l.Subject, func(r rune) bool { return r < ' ' || r == 0x85 || invisible(r) }) {
					t.Errorf("%s of %q: the subject is %q", m.Kind, evil, l.Subject)
				}
				own := strings.Count(l.Text, m.Fields["link"])
				if links := anyURL.FindAllString(l.Text, -1); len(links) != own || own != 1 {
					t.Errorf("%s of %q has the links %q", m.Kind, evil, links)
				}
				for _, link := range anyLink.FindAllStringSubmatch(l.HTML, -1) {
					if link[0] != m.Fields["link"] && link[2] != m.Fields["link"] {
						t.Errorf("%s of %q links to %q", m.Kind, evil, link[0])
					}
				}
				for _, tag := range anyTag.FindAllStringSubmatch(l.HTML, -1) {
					if !slices.Contains(strings.Fields("html head meta title body div p a strong br blockquote"), tag[1]) {
						t.Errorf("%s of %q has the tag %s", m.Kind, evil, tag[1])
					}
				}
				if n := strings.Count(l.HTML, "<a "); n != 1 {
					t.Errorf("%s of %q has %d links", m.Kind, evil, n)
				}
				for _, bare := range []string{"www.evil", "evil.example"} {
					if strings.Contains(l.Text+l.HTML+l.Subject, bare) {
						t.Errorf("%s of %q shows %s as it is", m.Kind, evil, bare)
					}
				}
			}
		}
	}
}
