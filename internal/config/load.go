package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
)

// ErrHelp is returned by Load when the arguments ask for help: print Usage and exit 0.
var ErrHelp = flag.ErrHelp

// maxFile bounds a settings or secret file; a larger one is a mistake.
const maxFile = 1 << 20

// Error is a setting that cannot be used. Its text is one line and never holds a secret's value.
type Error struct {
	Setting string // name in the environment, or "-flag", or a file
	Source  string // where the value came from; may be empty
	Got     string
	Want    string
}

func (e *Error) Error() string {
	from := ""
	if e.Source != "" {
		from = " (" + e.Source + ")"
	}
	line := fmt.Sprintf("%s: got %s%s, want %s", e.Setting, e.Got, from, e.Want)
	return strings.Join(strings.Fields(line), " ")
}

// Load puts together the settings of p: its defaults, the file named by -config, the environment as seen by lookup
// (os.LookupEnv) and args (os.Args[1:]). Standalone's secrets are made on the first run and kept in DATA_DIR.
// The error is ErrHelp or an *Error.
func Load(p Process, args []string, lookup func(string) (string, bool)) (Config, error) {
	l := loader{process: p, values: koanf.New("\x00"), sources: map[string]string{}}
	flags, path, err := l.parseFlags(args)
	if err != nil {
		return Config{}, err
	}
	if path != "" {
		if err := l.loadFile(path); err != nil {
			return Config{}, err
		}
	}
	if err := l.loadEnvironment(lookup); err != nil {
		return Config{}, err
	}
	if err := l.add(flags, func(env string) string { return "flag -" + flagOf(env) }); err != nil {
		return Config{}, err
	}
	return l.finish()
}

// loader merges the layers. Values stay as they were written until all layers are in, so that an error can name the one
// that won.
type loader struct {
	process Process
	values  *koanf.Koanf      // by environment name
	sources map[string]string // environment name → where its value came from
}

func (l *loader) add(layer map[string]any, source func(env string) string) error {
	for env := range layer {
		l.sources[env] = source(env)
	}
	if err := l.values.Load(confmap.Provider(layer, ""), nil); err != nil {
		return &Error{Setting: "settings", Got: "values that do not merge", Want: "one value for each name"}
	}
	return nil
}

func (l *loader) isSet(env string) bool { return l.sources[env] != "" }

// finish decodes what the layers left, fills in what follows from it and validates the whole.
func (l *loader) finish() (Config, error) {
	c := Defaults(l.process)
	for _, s := range settings {
		if !l.isSet(s.env) {
			continue
		}
		raw := l.values.Get(s.env)
		if err := decode(raw, s.field(&c)); err != nil {
			return Config{}, &Error{Setting: s.env, Got: s.describe(raw), Source: l.sources[s.env], Want: s.want}
		}
	}
	c.derive(l.process, l.isSet, defaultWorkerID())
	if l.process == Standalone {
		if err := c.ensureSecrets(); err != nil {
			return Config{}, err
		}
	}
	if err := c.validate(l.process, func(env string) string { return l.sources[env] }); err != nil {
		return Config{}, err
	}
	return c, nil
}

func defaultWorkerID() string {
	host, err := os.Hostname()
	if err != nil || !isWorkerID(host) || len(host) > 80 {
		host = "worker"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// settingOf finds the setting that s names as a YAML key, or that names s's file; file says which.
func settingOf(key string) (s setting, file, found bool) {
	for _, s := range settings {
		if key == s.key() {
			return s, false, true
		}
		if s.secret && key == s.key()+"_file" {
			return s, true, true
		}
	}
	return setting{}, false, false
}

func flagOf(env string) string {
	s, _, _ := settingOf(strings.ToLower(env))
	return s.flagName()
}

func (l *loader) parseFlags(args []string) (layer map[string]any, path string, err error) {
	layer = map[string]any{}
	set := flag.NewFlagSet(l.process.String(), flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&path, "config", "", "")
	for _, s := range settings {
		if s.secret || s.in&l.process == 0 {
			continue
		}
		put := func(v string) error { layer[s.env] = v; return nil }
		if _, isBool := s.field(&Config{}).(*bool); isBool {
			set.BoolFunc(s.flagName(), "", put)
		} else {
			set.Func(s.flagName(), "", put)
		}
	}
	err = set.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil, "", ErrHelp
	case err != nil:
		return nil, "", l.flagError(args, err)
	case set.NArg() > 0:
		return nil, "", &Error{Setting: "arguments", Got: fmt.Sprintf("%q", set.Arg(0)), Want: "flags only; --help lists them"}
	}
	for env, v := range layer {
		if v == "" {
			delete(layer, env)
		}
	}
	return layer, path, nil
}

// flagError names the flag that does not exist, without repeating its value, which may be a secret.
func (l *loader) flagError(args []string, err error) error {
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		s, file, found := settingOf(strings.ReplaceAll(name, "-", "_"))
		if strings.HasPrefix(arg, "-") && found && s.secret && !file {
			return &Error{
				Setting: "-" + name, Got: "a secret on the command line, which other users can read",
				Want: fmt.Sprintf("the environment variable %s or %s_FILE", s.env, s.env),
			}
		}
	}
	reason := err.Error()
	if name, found := strings.CutPrefix(reason, "flag provided but not defined: "); found {
		return &Error{Setting: name, Got: "a flag that " + l.process.String() + " does not know", Want: "one that --help lists"}
	}
	if name, found := strings.CutPrefix(reason, "flag needs an argument: "); found {
		return &Error{Setting: name, Got: "nothing", Want: "a value"}
	}
	return &Error{Setting: "arguments", Got: "something that is not a flag with a value", Want: "flags such as -port 3000; --help lists them"}
}

func (l *loader) loadFile(path string) error {
	text, err := readSmall(path)
	if err != nil {
		return &Error{Setting: "-config", Got: fmt.Sprintf("%q, which cannot be read: %s", path, plain(err)), Want: "a YAML file such as configs/" + l.process.String() + ".yaml"}
	}
	file := koanf.New("\x00")
	if err := file.Load(rawbytes.Provider(text), yaml.Parser()); err != nil {
		return &Error{Setting: "-config", Got: fmt.Sprintf("%q, which is not a YAML map of settings%s", path, yamlLine(err)), Want: "lines such as: port: 3000"}
	}
	layer := map[string]any{}
	for key, value := range file.Raw() {
		s, isFile, found := settingOf(key)
		if !found {
			return &Error{Setting: fmt.Sprintf("%.60q", key), Got: "an unknown key", Source: path, Want: nearest(key)}
		}
		if value == nil || value == "" {
			continue
		}
		if isFile {
			name, isText := value.(string)
			if !isText {
				return &Error{Setting: key, Got: "something that is not text", Source: path, Want: "a file's path"}
			}
			if file.Exists(s.key()) && file.Get(s.key()) != nil && file.Get(s.key()) != "" {
				return &Error{Setting: s.env, Got: "both " + s.key() + " and " + key, Source: path, Want: "one of them"}
			}
			if value, err = readSecret(s.env+"_FILE", name); err != nil {
				return err
			}
		}
		layer[s.env] = value
	}
	return l.add(layer, func(string) string { return path })
}

func (l *loader) loadEnvironment(lookup func(string) (string, bool)) error {
	layer := map[string]any{}
	for _, s := range settings {
		value, _ := lookup(s.env)
		if value != "" {
			layer[s.env] = value
		}
		if !s.secret {
			continue
		}
		name, _ := lookup(s.env + "_FILE")
		if name == "" {
			continue
		}
		if value != "" {
			return &Error{Setting: s.env, Got: "both " + s.env + " and " + s.env + "_FILE", Source: "environment", Want: "one of them"}
		}
		secret, err := readSecret(s.env+"_FILE", name)
		if err != nil {
			return err
		}
		layer[s.env] = secret
	}
	return l.add(layer, func(string) string { return "environment" })
}

// readSecret reads a secret's file; the newline that editors and echo leave at its end is not part of it.
func readSecret(setting, path string) (string, error) {
	text, err := readSmall(path)
	if err != nil {
		return "", &Error{Setting: setting, Got: fmt.Sprintf("%q, which cannot be read: %s", path, plain(err)), Want: "a file that holds the secret"}
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", &Error{Setting: setting, Got: fmt.Sprintf("%q, which is empty", path), Want: "a file that holds the secret"}
	}
	return secret, nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = errors.New("larger than 1 MiB")
	}
	return text, err
}

// plain is the reason without the path, which the caller names.
func plain(err error) string {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}
