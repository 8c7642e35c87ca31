package config

import (
	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/mail"
)

// Mail says how mail is sent. At most one of SMTP, Dir and Stdout is set, and then
// From is too; if none is, there is no mail.
type Mail struct {
	From         string
	SMTP         string // see mail.ParseServer
	Username     string
	Password     auth.Secret
	PasswordFile string // in place of Password
	Auth         string // see mail.AuthType
	Language     string
	Dir          string
	Stdout       bool
}

func (m *Mail) problems(add func(setting, msg string)) {
	ways := 0
	for _, set := range []bool{m.SMTP != "", m.Dir != "", m.Stdout} {
		if set {
			ways++
		}
	}
	switch {
	case ways > 1:
		add("mail-smtp", "mail goes one way: set one of mail-smtp, mail-dir and mail-stdout")
	case ways == 1 && m.From == "":
		add("mail-from", "is missing; mail needs it")
	case ways == 0 && m.From != "":
		add("mail-from", "is set, but not where mail goes: set mail-smtp, or for trying out mail-dir or mail-stdout")
	}
	if m.From != "" {
		if _, err := mail.ParseFrom(m.From); err != nil {
			add("mail-from", "is no address; write it like roster@example.com or Roster <roster@example.com>")
		}
	}
	if m.SMTP != "" {
		if _, err := mail.ParseServer(m.SMTP); err != nil {
			add("mail-smtp", err.Error())
		}
	}
	password := m.Password != "" || m.PasswordFile != ""
	switch {
	case m.Password != "" && m.PasswordFile != "":
		add("mail-password-file", "is set, and so is mail-password")
	case password && m.Username == "":
		add("mail-username", "is missing; the password needs it")
	case !password && m.Username != "":
		add("mail-password", "is missing; mail-username needs it, or mail-password-file")
	case m.Username != "" && m.SMTP == "":
		add("mail-username", "is set, but not mail-smtp")
	}
	if !mail.AuthType(m.Auth) {
		add("mail-auth", "is none of auto, plain, login, cram-md5, scram-sha-256 and xoauth2")
	}
	if !mail.Written(m.Language) {
		add("mail-language", "is neither en nor sv")
	}
}
