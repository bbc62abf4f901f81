// Package deployments holds no code of the product: these tests keep the files beside it true. Settings that are named
// must exist, metrics that are watched must be exported, and HAProxy and Redis must do what their files promise.
package deployments

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"switchboard/internal/config"
)

// parse reads every document of a YAML file.
func parse(t *testing.T, path string) []map[string]any {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var documents []map[string]any
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var document map[string]any
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return documents
		}
		require.NoError(t, err, path)
		require.NotEmpty(t, document, "%s has an empty document", path)
		documents = append(documents, document)
	}
}

// at walks down maps and lists; the test fails where the path ends early.
func at[T any](t *testing.T, value any, path ...any) T {
	t.Helper()
	for i, step := range path {
		switch s := step.(type) {
		case string:
			m, ok := value.(map[string]any)
			require.True(t, ok, "%v is not a map", path[:i])
			value = m[s]
		case int:
			list, ok := value.([]any)
			require.True(t, ok, "%v is not a list", path[:i])
			require.Greater(t, len(list), s, "%v is too short", path[:i])
			value = list[s]
		}
	}
	result, ok := value.(T)
	require.True(t, ok, "%v is a %T", path, value)
	return result
}

func TestAllYAMLParses(t *testing.T) {
	files := []string{filepath.Join("..", "docker-compose.yml")}
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".yaml") || strings.HasSuffix(path, ".yml") {
			files = append(files, path)
		}
		return err
	}))
	require.Greater(t, len(files), 10)
	for _, path := range files {
		require.NotEmpty(t, parse(t, path), path)
	}
}

// knownSettings are the names that internal/config takes from the environment.
func knownSettings() map[string]bool {
	known := map[string]bool{}
	key := regexp.MustCompile(`(?m)^([a-z][a-z_]*):`)
	for _, process := range []config.Process{config.API, config.Worker, config.Standalone} {
		for _, m := range key.FindAllSubmatch(config.Template(process), -1) {
			known[strings.ToUpper(string(m[1]))] = true
		}
		for _, name := range regexp.MustCompile(`[A-Z_]+_FILE\b`).FindAllString(config.Usage(process), -1) {
			known[name] = true
		}
	}
	return known
}

func processOf(t *testing.T, command string) (config.Process, bool) {
	t.Helper()
	switch command {
	case "/bin/api":
		return config.API, true
	case "/bin/worker":
		return config.Worker, true
	default:
		return 0, false
	}
}

func TestComposeStartsWithGoodSettings(t *testing.T) {
	compose := parse(t, filepath.Join("..", "docker-compose.yml"))[0]
	known := knownSettings()
	started := map[string]bool{}
	for name := range at[map[string]any](t, compose, "services") {
		service := at[map[string]any](t, compose, "services", name)
		command, _ := service["command"].([]any)
		if len(command) == 0 {
			continue
		}
		process, ours := processOf(t, at[string](t, command, 0))
		if !ours {
			continue
		}
		environment := at[map[string]any](t, service, "environment")
		for variable := range environment {
			require.True(t, known[variable], "%s: %s is not a setting", name, variable)
		}
		lookup := func(variable string) (string, bool) { value, ok := environment[variable].(string); return value, ok }
		cfg, err := config.Load(process, nil, lookup)
		require.NoError(t, err, name)
		require.Equal(t, config.Development, cfg.AppEnv, "%s: the keys in this file are for development only", name)
		grace, err := time.ParseDuration(at[string](t, service, "stop_grace_period"))
		require.NoError(t, err)
		require.Greater(t, grace, cfg.ShutdownTimeout, "%s is killed before it has drained", name)
		started[process.String()] = true
	}
	require.Len(t, started, 2)
}

var pinned = regexp.MustCompile(`:v?[0-9]+\.[0-9]+(\.[0-9]+)?(-[a-z0-9.]+)?$`)

func TestImagesArePinned(t *testing.T) {
	compose := parse(t, filepath.Join("..", "docker-compose.yml"))[0]
	for name := range at[map[string]any](t, compose, "services") {
		service := at[map[string]any](t, compose, "services", name)
		image := at[string](t, service, "image")
		if _, builds := service["build"]; !builds {
			require.Regexp(t, pinned, image, name)
		}
	}
	dockerfile, err := os.ReadFile("Dockerfile")
	require.NoError(t, err)
	module, err := os.ReadFile(filepath.Join("..", "go.mod"))
	require.NoError(t, err)
	builder := regexp.MustCompile(`ARG GO_VERSION=(\d+\.\d+)\.\d+`).FindSubmatch(dockerfile)
	require.NotNil(t, builder)
	require.Contains(t, string(module), "\ngo "+string(builder[1])+".", "the image builds with the Go of go.mod")
	for _, m := range regexp.MustCompile(`\./cmd/(\w+)`).FindAllSubmatch(dockerfile, -1) {
		require.FileExists(t, filepath.Join("..", "cmd", string(m[1]), "main.go"))
	}
}

// secrets are good values for what the pods read from files.
var secrets = map[string]string{
	"database-url":   "postgres://u:p@db.example.internal:5432/switchboard?sslmode=verify-full",
	"redis-url":      "rediss://u:p@redis.example.internal:6379/0",
	"jwt-secret":     strings.Repeat("s", 48),
	"encryption-key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
	"media-url":      "s3://KEY:SECRET@s3.example.com/media?region=eu-central-1",
	"metrics-token":  strings.Repeat("m", 32),
}

func TestKubernetes(t *testing.T) {
	known := knownSettings()
	folder := t.TempDir()
	for name, value := range secrets {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(value), 0o600))
	}
	template := at[map[string]any](t, parse(t, "kubernetes/secret.example.yaml")[0], "stringData")
	require.Len(t, template, len(secrets))
	for name, value := range template {
		require.Contains(t, secrets, name)
		require.Equal(t, "REPLACE", value, "no secret is committed")
	}
	shared := map[string]string{}
	for variable, value := range at[map[string]any](t, parse(t, "kubernetes/config.yaml")[0], "data") {
		text, ok := value.(string)
		require.True(t, ok, "%s must be quoted", variable)
		shared[variable] = strings.Replace(text, "/etc/switchboard/secrets", folder, 1)
	}
	workloads := 0
	for _, file := range []string{"api.yaml", "worker.yaml", "worker-dedicated.example.yaml"} {
		for _, document := range parse(t, "kubernetes/"+file) {
			if document["kind"] == "Deployment" {
				workloads++
				t.Run(file, func(t *testing.T) { checkDeployment(t, document, shared, known) })
			}
		}
	}
	require.Equal(t, 3, workloads)
}

func checkDeployment(t *testing.T, deployment map[string]any, shared map[string]string, known map[string]bool) {
	require.Equal(t, at[map[string]any](t, deployment, "spec", "selector", "matchLabels"),
		at[map[string]any](t, deployment, "spec", "template", "metadata", "labels"), "a Deployment selects its own pods and no others")
	pod := at[map[string]any](t, deployment, "spec", "template", "spec")
	container := at[map[string]any](t, pod, "containers", 0)
	process, ours := processOf(t, at[string](t, container, "command", 0))
	require.True(t, ours)

	environment := map[string]string{}
	for variable, value := range shared {
		environment[variable] = value
	}
	for _, entry := range at[[]any](t, container, "env") {
		name := at[string](t, entry, "name")
		environment[name] = "from-the-pod"
		if value, literal := entry.(map[string]any)["value"].(string); literal {
			environment[name] = value
		}
	}
	for variable := range environment {
		require.True(t, known[variable], "%s is not a setting", variable)
	}
	var args []string
	if list, given := container["args"].([]any); given {
		for i := range list {
			args = append(args, at[string](t, list, i))
		}
	}
	cfg, err := config.Load(process, args, func(name string) (string, bool) { value, ok := environment[name]; return value, ok })
	require.NoError(t, err)
	require.Equal(t, config.Production, cfg.AppEnv)
	require.Equal(t, strings.Contains(at[string](t, deployment, "metadata", "name"), "channel"), len(cfg.WorkerChannels) > 0)

	require.Equal(t, cfg.Port, at[int](t, container, "ports", 0, "containerPort"))
	port := at[string](t, container, "ports", 0, "name")
	for probe, path := range map[string]string{"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"} {
		require.Equal(t, path, at[string](t, container, probe, "httpGet", "path"))
		require.Equal(t, port, at[string](t, container, probe, "httpGet", "port"))
	}
	pause := 0
	if process == config.API {
		pause = at[int](t, container, "lifecycle", "preStop", "sleep", "seconds")
	}
	grace := time.Duration(at[int](t, pod, "terminationGracePeriodSeconds")-pause) * time.Second
	require.GreaterOrEqual(t, grace, cfg.ShutdownTimeout+5*time.Second, "the pod is killed before it has drained")
	require.True(t, at[bool](t, pod, "securityContext", "runAsNonRoot"))
	require.True(t, at[bool](t, container, "securityContext", "readOnlyRootFilesystem"))
}

// TestSettingsAreDocumented keeps the settings table of docs/operations.md complete.
func TestSettingsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "operations.md"))
	require.NoError(t, err)
	var missing []string
	for name := range knownSettings() {
		base := strings.TrimSuffix(name, "_FILE")
		if base != "NAME" && !bytes.Contains(text, []byte("| `"+base+"`")) {
			missing = append(missing, base)
		}
	}
	slices.Sort(missing)
	require.Empty(t, slices.Compact(missing), "settings without a row in docs/operations.md")
}
