package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// Load reads the configuration from flags (made by AddFlags and parsed), from the
// environment, where an empty variable is one that is not set, and from the file.
// All that is wrong, with the file, with single values and with how they fit
// together, is in one error made of a *SettingError for each problem.
func Load(flags *pflag.FlagSet, getenv func(string) string) (Config, error) {
	// No setting has a dot in its name, so nothing is nested.
	l := loader{k: koanf.New("."), sources: map[string]string{}}
	l.defaults()
	l.file(flags, getenv)
	l.environment(getenv)
	l.flags(flags)
	return l.config()
}

// loader gathers the text of every setting, each source over the one before, and
// remembers who had the last word.
type loader struct {
	k        *koanf.Koanf
	sources  map[string]string
	problems []*SettingError
}

// take loads one source. Its own errors become a problem of the config setting.
func (l *loader) take(source string, p koanf.Provider, parser koanf.Parser) {
	if err := l.k.Load(p, parser); err != nil {
		msg := err.Error()
		if path, ok := errors.AsType[*fs.PathError](err); ok {
			msg = "cannot be read: " + path.Err.Error()
		}
		l.problems = append(l.problems, &SettingError{Setting: configFile, Source: source, Msg: msg})
	}
}

func (l *loader) defaults() {
	values := map[string]any{}
	for _, s := range settings {
		values[s.Name] = s.Default
	}
	l.take("", confmap.Provider(values, ""), nil)
}

func (l *loader) file(flags *pflag.FlagSet, getenv func(string) string) {
	path := getenv(EnvName(configFile))
	if f := flags.Lookup(configFile); f != nil && f.Changed {
		path = f.Value.String()
	}
	if path != "" {
		l.take(path, file.Provider(path), &fileParser{name: filepath.Base(path), loader: l})
	}
}

func (l *loader) environment(getenv func(string) string) {
	names := map[string]string{}
	var environ []string
	for _, s := range settings {
		if v := getenv(s.Env); v != "" {
			names[s.Env] = s.Name
			environ = append(environ, s.Env+"="+v)
		}
	}
	l.take("", env.Provider("", env.Opt{
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(variable, value string) (string, any) {
			l.sources[names[variable]] = variable
			return names[variable], value
		},
	}), nil)
}

func (l *loader) flags(flags *pflag.FlagSet) {
	l.take("", posflag.ProviderWithFlag(flags, l.k.Delim(), l.k, func(f *pflag.Flag) (string, any) {
		if !known(f.Name) {
			return "", nil
		}
		if f.Changed {
			l.sources[f.Name] = "--" + f.Name
		}
		return f.Name, f.Value.String()
	}), nil)
}

// config turns the texts into a Config.
func (l *loader) config() (Config, error) {
	c := Default()
	for _, s := range settings {
		if err := s.set(&c, l.k.String(s.Name)); err != nil {
			l.problems = append(l.problems, &SettingError{Setting: s.Name, Msg: err.Error()})
		}
	}
	l.problems = append(l.problems, c.problems()...)
	for _, p := range l.problems {
		if p.Source == "" {
			p.Source = l.sources[p.Setting]
		}
	}
	return c, join(l.problems)
}

// UnknownVariables returns the names of those variables of an environment that look
// like settings and are none.
func UnknownVariables(environ []string) []string {
	var list []string
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, envPrefix) && value != "" && !slices.ContainsFunc(Settings(), func(s Setting) bool { return s.Env == name }) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func known(name string) bool {
	return slices.ContainsFunc(settings, func(s Setting) bool { return s.Name == name })
}

// fileParser reads the YAML file. It keeps values as they are written, because
// YAML has its own ideas about what is a number, and it knows the lines.
type fileParser struct {
	name   string
	loader *loader
}

// Unmarshal implements koanf.Parser. A file that is YAML never fails as a whole;
// each problem in it is reported by itself and the rest is used.
func (p *fileParser) Unmarshal(b []byte) (map[string]any, error) {
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(b))
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF): // nothing but comments
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("is not YAML: %w", err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("has more than one YAML document")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, errors.New("does not consist of lines like listen: 127.0.0.1:8080")
	}
	values := map[string]any{}
	for i := 0; i < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		source := fmt.Sprintf("%s:%d", p.name, key.Line)
		problem := func(msg string) {
			p.loader.problems = append(p.loader.problems, &SettingError{Setting: key.Value, Source: source, Msg: msg})
		}
		if !known(key.Value) {
			problem("there is no such setting")
			continue
		}
		if _, twice := values[key.Value]; twice {
			problem("is set twice")
			continue
		}
		text, msg := scalar(key.Value, value)
		if msg != "" {
			problem(msg)
			continue
		}
		values[key.Value] = text
		p.loader.sources[key.Value] = source
	}
	return values, nil
}

// Marshal implements koanf.Parser.
func (p *fileParser) Marshal(map[string]any) ([]byte, error) { return nil, errors.ErrUnsupported }

// scalar returns the text of a value, or what is wrong with it. A list is the
// text of its elements with commas between.
func scalar(name string, n *yaml.Node) (text, problem string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return "", "has no value"
	case n.Kind == yaml.ScalarNode:
		return n.Value, ""
	case n.Kind == yaml.SequenceNode && isList(name):
		items := make([]string, 0, len(n.Content))
		for _, e := range n.Content {
			if e.Kind != yaml.ScalarNode || e.Tag == "!!null" {
				return "", "is a list of something else than texts"
			}
			items = append(items, e.Value)
		}
		return strings.Join(items, ","), ""
	case n.Kind == yaml.SequenceNode:
		return "", "takes one value, not a list"
	}
	return "", "takes a value, not further settings"
}

func isList(name string) bool {
	return slices.ContainsFunc(settings, func(s Setting) bool { return s.Name == name && s.Kind == "list" })
}
