package config

import "time"

// TraefikEntryPoint is the name of the entry point the API, ping and metrics
// use by default; Normalize makes it, on :8080, when it is used and not given.
const TraefikEntryPoint = "traefik"

// Web is the 1.x section that became api, ping, metrics and an entry point.
type Web struct {
	Address    string      `key:"address" help:"now entryPoints.traefik.address"`
	CertFile   string      `key:"certFile" help:"now entryPoints.traefik.tls.certificates"`
	KeyFile    Secret      `key:"keyFile" help:"now entryPoints.traefik.tls.certificates"`
	ReadOnly   bool        `key:"readOnly" help:"now api.readOnly"`
	Path       string      `key:"path" help:"accepted, without effect"`
	Statistics *Statistics `key:"statistics" help:"now api.statistics"`
	Metrics    *Metrics    `key:"metrics" help:"now metrics"`
	Auth       *Auth       `key:"auth" help:"now entryPoints.traefik.auth"`
	Debug      bool        `key:"debug" help:"now api.debug"`
}

// SetDefaults gives Traefik's address.
func (w *Web) SetDefaults() { w.Address = ":8080" }

// API is the status API and the dashboard.
type API struct {
	EntryPoint string      `key:"entryPoint" help:"where the API is served"`
	Dashboard  bool        `key:"dashboard" help:"serve the dashboard as well"`
	Debug      bool        `key:"debug" help:"serve debug routes as well"`
	ReadOnly   bool        `key:"readOnly" help:"refuse every request that would change something"`
	Statistics *Statistics `key:"statistics" help:"recent errors"`
}

// SetDefaults serves API and dashboard at the entry point traefik.
func (a *API) SetDefaults() {
	a.EntryPoint, a.Dashboard = TraefikEntryPoint, true
	a.Statistics = &Statistics{RecentErrors: 10}
}

// Statistics bounds what the API remembers.
type Statistics struct {
	RecentErrors int `key:"recentErrors" help:"errors remembered"`
}

// SetDefaults remembers ten errors.
func (s *Statistics) SetDefaults() { s.RecentErrors = 10 }

// Ping is /ping and /ready.
type Ping struct {
	EntryPoint string `key:"entryPoint" help:"where /ping and /ready are served"`
}

// SetDefaults serves them at the entry point traefik.
func (p *Ping) SetDefaults() { p.EntryPoint = TraefikEntryPoint }

// Rest takes routing configuration by PUT.
type Rest struct {
	EntryPoint string `key:"entryPoint" help:"where PUT is taken"`
}

// SetDefaults serves it at the entry point traefik.
func (r *Rest) SetDefaults() { r.EntryPoint = TraefikEntryPoint }

// Metrics says where figures go.
type Metrics struct {
	Prometheus *Prometheus `key:"prometheus" help:"figures for Prometheus to fetch"`
	Datadog    *StatsD     `key:"datadog" help:"figures pushed to Datadog"`
	StatsD     *StatsD     `key:"statsd" help:"figures pushed to StatsD"`
	InfluxDB   *InfluxDB   `key:"influxdb" help:"figures pushed to InfluxDB"`
}

// Prometheus fetches figures from /metrics.
type Prometheus struct {
	EntryPoint string    `key:"entryPoint" help:"where /metrics is served"`
	Buckets    []float64 `key:"buckets" help:"seconds, bounds of the latency histogram"`
}

// SetDefaults gives Traefik's buckets.
func (p *Prometheus) SetDefaults() {
	p.EntryPoint, p.Buckets = TraefikEntryPoint, []float64{0.1, 0.3, 1.2, 5.0}
}

// StatsD is an agent that figures are pushed to.
type StatsD struct {
	Address      string   `key:"address" help:"host:port"`
	PushInterval Duration `key:"pushInterval" help:"time between two pushes"`
}

// SetDefaults gives the usual agent on this machine.
func (s *StatsD) SetDefaults() {
	s.Address, s.PushInterval = "localhost:8125", Duration(10*time.Second)
}

// InfluxDB is a database that figures are pushed to.
type InfluxDB struct {
	Address         string   `key:"address" help:"host:port or URL"`
	Protocol        string   `key:"protocol" help:"udp or http"`
	PushInterval    Duration `key:"pushInterval" help:"time between two pushes"`
	Database        string   `key:"database" help:"database, with http"`
	RetentionPolicy string   `key:"retentionPolicy" help:"retention policy, with http"`
	Username        string   `key:"username" help:"user name"`
	Password        Secret   `key:"password" help:"password"`
}

// SetDefaults gives the usual address on this machine.
func (i *InfluxDB) SetDefaults() {
	i.Address, i.Protocol, i.PushInterval = "localhost:8089", "udp", Duration(10*time.Second)
}

// Tracing says where spans go.
type Tracing struct {
	Backend       string          `key:"backend" help:"jaeger, zipkin, datadog or instana"`
	ServiceName   string          `key:"serviceName" help:"name of this program in the spans"`
	SpanNameLimit int             `key:"spanNameLimit" help:"longest span name; 0: no limit"`
	Jaeger        *TracingJaeger  `key:"jaeger" help:"Jaeger"`
	Zipkin        *TracingZipkin  `key:"zipkin" help:"Zipkin"`
	DataDog       *TracingDataDog `key:"datadog" help:"Datadog"`
	Instana       *TracingInstana `key:"instana" help:"Instana"`
}

// SetDefaults gives Traefik's names.
func (t *Tracing) SetDefaults() { t.Backend, t.ServiceName = "jaeger", "traefik" }

// TracingJaeger are Jaeger's settings.
type TracingJaeger struct {
	SamplingServerURL      string  `key:"samplingServerURL" help:"sampling server"`
	SamplingType           string  `key:"samplingType" help:"const, probabilistic or rateLimiting"`
	SamplingParam          float64 `key:"samplingParam" help:"parameter of the sampling"`
	LocalAgentHostPort     string  `key:"localAgentHostPort" help:"host:port of the agent"`
	TraceContextHeaderName string  `key:"traceContextHeaderName" help:"header that carries the trace"`
	Propagation            string  `key:"propagation" help:"jaeger or b3"`
	Gen128Bit              bool    `key:"gen128Bit" help:"128-bit trace identifiers"`
}

// TracingZipkin are Zipkin's settings.
type TracingZipkin struct {
	HTTPEndpoint string  `key:"httpEndpoint" help:"URL of the collector"`
	SameSpan     bool    `key:"sameSpan" help:"share spans with clients"`
	ID128Bit     bool    `key:"id128Bit" help:"128-bit trace identifiers"`
	Debug        bool    `key:"debug" help:"debug spans"`
	SampleRate   float64 `key:"sampleRate" help:"share of requests traced"`
}

// TracingDataDog are Datadog's settings.
type TracingDataDog struct {
	LocalAgentHostPort string `key:"localAgentHostPort" help:"host:port of the agent"`
	GlobalTag          string `key:"globalTag" help:"key:value on every span"`
	Debug              bool   `key:"debug" help:"debug spans"`
	PrioritySampling   bool   `key:"prioritySampling" help:"sample by priority"`
}

// TracingInstana are Instana's settings.
type TracingInstana struct {
	LocalAgentHost string `key:"localAgentHost" help:"host of the agent"`
	LocalAgentPort int    `key:"localAgentPort" help:"port of the agent"`
	LogLevel       string `key:"logLevel" help:"error, warn, info or debug"`
}

// Kubernetes takes Ingresses from an API server.
type Kubernetes struct {
	Endpoint                  string           `key:"endpoint" help:"API server; default: the one of this cluster"`
	Token                     Secret           `key:"token" help:"bearer token"`
	CertAuthFilePath          string           `key:"certAuthFilePath" help:"CA of the API server"`
	DisablePassHostHeaders    bool             `key:"disablePassHostHeaders" help:"do not pass the client's Host on"`
	EnablePassTLSCert         bool             `key:"enablePassTLSCert" help:"pass client certificates on"`
	Namespaces                []string         `key:"namespaces" help:"namespaces; empty: all"`
	LabelSelector             string           `key:"labelSelector" help:"only Ingresses with these labels"`
	IngressClass              string           `key:"ingressClass" help:"only Ingresses of this class"`
	IngressEndpoint           *IngressEndpoint `key:"ingressEndpoint" help:"address written into Ingress status"`
	AllowExternalNameServices bool             `key:"allowExternalNameServices" help:"let Services of type ExternalName lead out of the cluster"`
	Zone                      string           `key:"zone" help:"zone of this replica, for hints of EndpointSlices"`
	ThrottleDuration          Duration         `key:"throttleDuration" help:"shortest time between two changes"`
	Watch                     bool             `key:"watch" help:"follow changes"`
	Filename                  string           `key:"filename" help:"accepted, without effect: there are no templates"`
	Constraints               []string         `key:"constraints" help:"tag==glob or tag!=glob"`
	Trace                     bool             `key:"trace" help:"accepted, without effect"`
	DebugLogGeneratedTemplate bool             `key:"debugLogGeneratedTemplate" help:"accepted, without effect"`
}

// SetDefaults follows changes.
func (k *Kubernetes) SetDefaults() { k.Watch = true }

// IngressEndpoint is what Ingress status shows.
type IngressEndpoint struct {
	IP               string `key:"ip" help:"address"`
	Hostname         string `key:"hostname" help:"name"`
	PublishedService string `key:"publishedService" help:"namespace/name of the Service to copy from"`
}

// File takes routing configuration from files. With neither Filename nor
// Directory it is the rest of the static file itself.
type File struct {
	Filename                  string   `key:"filename" help:"one file"`
	Directory                 string   `key:"directory" help:"every .toml, .yml and .yaml file of a folder"`
	Watch                     bool     `key:"watch" help:"follow changes"`
	Constraints               []string `key:"constraints" help:"tag==glob or tag!=glob"`
	Trace                     bool     `key:"trace" help:"accepted, without effect"`
	DebugLogGeneratedTemplate bool     `key:"debugLogGeneratedTemplate" help:"accepted, without effect"`
}

// SetDefaults follows changes.
func (f *File) SetDefaults() { f.Watch = true }
