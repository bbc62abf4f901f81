package deployments

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/config"
	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/simulator/telegram"
	"switchboard/internal/simulator/whatsapp"
)

// TestComposeSimulatesTheProviders: what the processes take for the providers is where the simulator listens, on the ports
// that its pages are published on, to this machine only.
func TestComposeSimulatesTheProviders(t *testing.T) {
	compose := parse(t, filepath.Join("..", "docker-compose.yml"))[0]
	simulator := at[map[string]any](t, compose, "services", "simulator")
	flags := map[string]string{}
	for _, argument := range at[[]any](t, simulator, "command")[1:] {
		name, value, ok := strings.Cut(argument.(string), "=")
		require.True(t, ok, "%v", argument)
		flags[name] = value
	}
	host := func(listens string) string { return "simulator:" + strings.TrimPrefix(flags[listens], "0.0.0.0:") }
	cloud, bots, phones := host("-listen"), host("-telegram-listen"), host("-whatsapp-listen")
	for _, address := range []string{cloud, bots, phones} {
		_, port, _ := strings.Cut(address, ":")
		require.Contains(t, at[[]any](t, simulator, "ports"), "127.0.0.1:"+port+":"+port)
	}
	require.Len(t, at[[]any](t, simulator, "ports"), 3, "each has a port of its own")
	require.True(t, strings.HasPrefix(flags["-whatsapp-state"], "/data/"), "the image's user may write there only")
	require.Contains(t, at[[]any](t, simulator, "volumes"), "simulator:/data")
	webhook, err := url.Parse(flags["-webhook-url"])
	require.NoError(t, err)
	require.Contains(t, at[map[string]any](t, compose, "services"), webhook.Hostname())

	linked, err := whatsapp.New(whatsapp.Options{RootKey: whatsapp.DemoRootKey()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = linked.Close() })

	for _, name := range []string{"api1", "api2", "worker"} {
		environment := at[map[string]any](t, compose, "services", name, "environment")
		process := config.API
		if name == "worker" {
			process = config.Worker
		}
		cfg, err := config.Load(process, nil, func(variable string) (string, bool) { value, ok := environment[variable].(string); return value, ok })
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(cfg.WABAAPIURL, "http://"+cloud+"/"), "%s: %s", name, cfg.WABAAPIURL)
		require.Equal(t, "http://"+bots+"/bot%s/%s", cfg.TelegramAPIEndpoint, name)
		require.Equal(t, "http://"+bots+"/file/bot%s/%s", cfg.TelegramFileEndpoint, name)
		require.Equal(t, "http://"+phones, cfg.WhatsAppEndpoint, name)
		require.Equal(t, linked.RootKeyHex(), cfg.WhatsAppRootKey, name)
	}
}

// TestQuickStartAddsTheSimulatorsChannels: the commands of the quick start name what the simulator has.
func TestQuickStartAddsTheSimulatorsChannels(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "quick-start.md"))
	require.NoError(t, err)
	number := cloudapi.DemoNumber("")
	for _, value := range []string{
		number.PhoneNumberID, number.BusinessAccountID, number.AccessToken, number.AppSecret, number.VerifyToken, telegram.DemoBot().Token,
	} {
		require.Contains(t, string(text), `"`+value+`"`)
	}
	require.Contains(t, string(text), whatsapp.DemoPhone().Number)
}
