package suites

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"
)

// rounds of all cases; a race shows in some round only.
const rounds = 20

// TestGRPC runs gRPC's interoperability cases through the router, with TLS or
// HTTP/2 by prior knowledge on either side.
func TestGRPC(t *testing.T) {
	grpclog.SetLoggerV2(fatal{grpclog.NewLoggerV2(discard{}, discard{}, discard{})})
	for _, scheme := range []string{"h2c", "https"} {
		r := start(t, "", map[string]string{"/": scheme + "://" + interopServer(t, scheme)})
		t.Run("TLS to "+scheme, func(t *testing.T) {
			t.Parallel()
			interoperate(t, r.https, credentials.NewTLS(r.tls()))
		})
		t.Run("h2c to "+scheme, func(t *testing.T) {
			t.Parallel()
			interoperate(t, r.http, insecure.NewCredentials())
		})
	}
}

func interoperate(t *testing.T, addr string, c credentials.TransportCredentials) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(c),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for round := range rounds {
		for _, c := range interopCases(conn) {
			if err := attempt(c.run); err != nil {
				t.Errorf("round %d: %s: %v", round, c.name, err)
			}
		}
	}
}

type interopCase struct {
	name string
	run  func(context.Context)
}

// interopCases are those of grpc-go's client that need no credentials of
// Google's.
func interopCases(conn *grpc.ClientConn) []interopCase {
	tc := testgrpc.NewTestServiceClient(conn)
	with := func(run func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) func(context.Context) {
		return func(ctx context.Context) { run(ctx, tc) }
	}
	return []interopCase{
		{"empty_unary", with(interop.DoEmptyUnaryCall)},
		{"large_unary", with(interop.DoLargeUnaryCall)},
		{"client_streaming", with(interop.DoClientStreaming)},
		{"server_streaming", with(interop.DoServerStreaming)},
		{"ping_pong", with(interop.DoPingPong)},
		{"empty_stream", with(interop.DoEmptyStream)},
		{"timeout_on_sleeping_server", with(interop.DoTimeoutOnSleepingServer)},
		{"cancel_after_begin", with(interop.DoCancelAfterBegin)},
		{"cancel_after_first_response", with(interop.DoCancelAfterFirstResponse)},
		{"status_code_and_message", with(interop.DoStatusCodeAndMessage)},
		{"special_status_message", with(interop.DoSpecialStatusMessage)},
		{"custom_metadata", with(interop.DoCustomMetadata)},
		{"unimplemented_method", func(ctx context.Context) { interop.DoUnimplementedMethod(ctx, conn) }},
		{"unimplemented_service", func(ctx context.Context) {
			interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
		}},
		{"orca_per_rpc", func(ctx context.Context) { interop.DoORCAPerRPCTest(ctx, tc) }},
	}
}

// attempt runs a case, which reports a failure as fatal to the logger.
func attempt(run func(context.Context)) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%v", cause)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	run(ctx)
	return nil
}

// fatal is a logger whose last word is a panic, not the end of the process.
type fatal struct{ grpclog.LoggerV2 }

func (fatal) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (fatal) Fatalln(args ...any)               { panic(fmt.Sprintln(args...)) }
func (fatal) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// interopServer is grpc-go's, plain or by TLS; it gives its address.
func interopServer(t *testing.T, scheme string) string {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opts := []grpc.ServerOption{orca.CallMetricsServerOption(nil)}
	if scheme == "https" {
		dir := t.TempDir()
		certificate(t, dir)
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		opts = append(opts, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	}
	server := grpc.NewServer(opts...)
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer(interop.NewTestServerOptions{MetricsRecorder: orca.NewServerMetricsRecorder()}))
	go server.Serve(socket)
	t.Cleanup(server.Stop)
	return socket.Addr().String()
}
