package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMail(t *testing.T) {
	from := "--mail-from=Roster <r@example.com>"
	for _, test := range []struct {
		args []string
		want Mail
	}{
		{nil, Mail{}},
		{[]string{from, "--mail-stdout"}, Mail{From: "Roster <r@example.com>", Stdout: true}},
		{[]string{from, "--mail-dir=m"}, Mail{From: "Roster <r@example.com>", Dir: "m"}},
		{[]string{from, "--mail-smtp=smtp://m", "--mail-username=u", "--mail-password-file=p"}, Mail{From: "Roster <r@example.com>", SMTP: "smtp://m", Username: "u", PasswordFile: "p"}},
	} {
		test.want.Auth, test.want.Language = "auto", "en"
		got, err := load(t, test.args, nil, "")
		if diff := cmp.Diff(test.want, got.Mail); diff != "" || err != nil {
			t.Errorf("%q: %v\n%s", test.args, err, diff)
		}
	}
	smtp := "--mail-smtp=smtp://m"
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{smtp}, "mail-from: is missing"},
		{[]string{from}, "mail-from: is set, but not where"},
		{[]string{from, smtp, "--mail-stdout"}, "mail-smtp: mail goes one way"},
		{[]string{"--mail-from=zqx", smtp}, "mail-from: is no address"},
		{[]string{from, "--mail-smtp=smtp://u:zqx@m"}, "mail-smtp: carries a user name or password"},
		{[]string{from, "--mail-smtp=smtp+plain://mail.example.com"}, "mail-smtp: would send mail over the network without TLS"},
		{[]string{from, smtp, "--mail-password=zqx"}, "mail-username: is missing"},
		{[]string{from, smtp, "--mail-username=zqx"}, "mail-password: is missing"},
		{[]string{from, smtp, "--mail-username=u", "--mail-password=zqx", "--mail-password-file=f"}, "mail-password-file: is set, and so is"},
		{[]string{from, "--mail-stdout", "--mail-username=u", "--mail-password=zqx"}, "mail-username: is set, but not mail-smtp"},
		{[]string{"--mail-auth=zqx"}, "mail-auth: is none of"},
		{[]string{"--mail-language=fr"}, "mail-language: is neither"},
	} {
		_, err := load(t, test.args, nil, "")
		list := problems(t, err)
		if len(list) != 1 || !strings.HasPrefix(list[0].Setting+": "+list[0].Msg, test.want) || strings.Contains(err.Error(), "zqx") {
			t.Errorf("%q: %v, want one problem: %s…", test.args, err, test.want)
		}
	}
}
