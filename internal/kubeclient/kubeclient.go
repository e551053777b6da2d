// Package kubeclient speaks to a Kubernetes API server: who we are and where
// it is, one object at a time, and mirrors that follow all objects of a kind.
// It stands on client-go's REST client and reflector with a scheme of only the
// kinds used here (decision 14). What the objects mean belongs to its callers,
// provider/kubernetes and store/kubestore.
package kubeclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/"
	callTimeout    = 5 * time.Second
	// A connection that is silent for this long is asked whether it lives, and
	// closed if it does not say so in as long again: nobody else tells a watch.
	pingAfter = 3 * time.Second
)

// Options say where the API server is and who asks. With neither Kubeconfig
// nor Endpoint they are those of the pod this runs in; the environment variable
// KUBECONFIG is used when there is no such pod.
type Options struct {
	Kubeconfig string        // file
	Endpoint   string        // URL
	Token      string        // bearer token for Endpoint; empty: the pod's, if it has one
	CAFile     string        // CA of Endpoint; empty: the pod's, or the system's
	Namespace  string        // our own; empty: the pod's, the kubeconfig's, or "default"
	Timeout    time.Duration // of one call that is no watch; zero: 5 s
	Logger     *slog.Logger  // warnings of the API server and lost watches; nil: none
}

// Client is a connection to one API server as one user. Its methods may be
// called from any goroutine.
type Client struct {
	config    *rest.Config
	http      *http.Client
	transport *http.Transport
	scheme    *runtime.Scheme
	codecs    serializer.CodecFactory
	clients   map[schema.GroupVersion]*rest.RESTClient
	namespace string
	timeout   time.Duration
	log       *slog.Logger
}

// Open checks the settings and reads the files they name; the server need not
// be up. The caller calls Close in the end.
func Open(o Options) (*Client, error) {
	config, namespace, err := settings(o)
	if err != nil {
		return nil, fmt.Errorf("open kubernetes client: %w", err)
	}
	c := &Client{
		config: config, namespace: cmp.Or(o.Namespace, namespace, "default"),
		timeout: cmp.Or(o.Timeout, callTimeout), log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)),
		clients: map[schema.GroupVersion]*rest.RESTClient{},
	}
	c.scheme = newScheme()
	c.codecs = serializer.NewCodecFactory(c.scheme)
	if err := c.connect(); err != nil {
		return nil, fmt.Errorf("open kubernetes client for %s: %w", config.Host, err)
	}
	return c, nil
}

// settings are where the server is, and the namespace that goes with it.
func settings(o Options) (*rest.Config, string, error) {
	if o.Kubeconfig != "" {
		return fromKubeconfig(o.Kubeconfig)
	}
	if o.Endpoint != "" {
		config := &rest.Config{Host: o.Endpoint, BearerToken: o.Token, TLSClientConfig: rest.TLSClientConfig{CAFile: o.CAFile}}
		if o.Token == "" && exists(serviceAccount+"token") {
			config.BearerTokenFile = serviceAccount + "token"
		}
		if o.CAFile == "" && exists(serviceAccount+"ca.crt") {
			config.CAFile = serviceAccount + "ca.crt"
		}
		return config, podNamespace(), nil
	}
	config, err := rest.InClusterConfig()
	if err == nil {
		return config, podNamespace(), nil
	}
	if file := os.Getenv("KUBECONFIG"); file != "" {
		return fromKubeconfig(file)
	}
	return nil, "", fmt.Errorf("no API server is named, and this is no pod: %w", err)
}

func fromKubeconfig(file string) (*rest.Config, string, error) {
	loaded, err := clientcmd.LoadFromFile(file)
	if err != nil {
		return nil, "", fmt.Errorf("read kubeconfig %s: %w", file, err)
	}
	if err := clientcmd.ResolveLocalPaths(loaded); err != nil {
		return nil, "", fmt.Errorf("read kubeconfig %s: %w", file, err)
	}
	view := clientcmd.NewDefaultClientConfig(*loaded, &clientcmd.ConfigOverrides{})
	config, err := view.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("read kubeconfig %s: %w", file, err)
	}
	namespace, _, err := view.Namespace()
	return config, namespace, err
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func podNamespace() string {
	text, err := os.ReadFile(serviceAccount + "namespace")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// connect makes the HTTP client. Its transport is ours, not client-go's shared
// one, so that dead connections are noticed within seconds and Close closes
// them; the token is client-go's, which reads its file again.
func (c *Client) connect() error {
	c.config.UserAgent = "gatehouse"
	c.config.QPS = -1 // the server has its own fairness
	if !strings.Contains(c.config.Host, "://") {
		c.config.Host = "https://" + c.config.Host
	}
	trust, err := rest.TLSConfigFor(c.config)
	if err != nil {
		return err
	}
	if trust == nil {
		trust = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	c.transport = &http.Transport{
		TLSClientConfig: trust, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment,
		DialContext:         (&dialer{Dialer: net.Dialer{Timeout: 3 * time.Second, KeepAlive: 10 * time.Second}}).connect,
		TLSHandshakeTimeout: 3 * time.Second, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 4,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
	}
	wrapped, err := rest.HTTPWrappersForConfig(c.config, c.transport)
	if err != nil {
		return err
	}
	c.http = &http.Client{Transport: wrapped}
	for _, gv := range c.scheme.PrioritizedVersionsAllGroups() {
		client, err := c.restClient(gv)
		if err != nil {
			return err
		}
		c.clients[gv] = client
	}
	return nil
}

func (c *Client) restClient(gv schema.GroupVersion) (*rest.RESTClient, error) {
	config := rest.CopyConfig(c.config)
	config.GroupVersion, config.APIPath = &gv, "/apis"
	if gv.Group == "" {
		config.APIPath = "/api"
	}
	config.NegotiatedSerializer = c.codecs.WithoutConversion()
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.WarningHandlerWithContext = warnings{c.log}
	return rest.RESTClientForConfigAndClient(config, c.http)
}

// warnings are what the server says beside its answers.
type warnings struct{ log *slog.Logger }

func (w warnings) HandleWarningHeaderWithContext(_ context.Context, code int, _ string, text string) {
	if code == 299 && text != "" {
		w.log.Debug("the API server warns", "warning", text)
	}
}

// Namespace is the one we live in.
func (c *Client) Namespace() string { return c.namespace }

// Server is the API server's URL.
func (c *Client) Server() string { return c.config.Host }

// Close closes the connections; calls and mirrors under way must have ended.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// Ready asks the server whether it is there and knows us: its version, which
// everybody who is known may read.
func (c *Client) Ready(ctx context.Context) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	err := c.clients[schema.GroupVersion{Version: "v1"}].Get().AbsPath("/version").Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("ask kubernetes %s for its version: %w", c.Server(), explain(ctx, err))
	}
	return nil
}

func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no answer within %v", c.timeout))
}

// explain says why a call was cut short, where its own error does not.
func explain(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if cause == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}
