package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.opentelemetry.io/otel/trace/noop"
	crds "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/rest"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

// servedWithin is how long a new resource may take until there can be objects of it.
const servedWithin = time.Minute

// streams is what kube-apiserver takes on one connection unless told otherwise.
const streams = 100

// seed is an object that every member has from the start.
type seed struct {
	// Path is where it is created.
	Path string `json:"path"`
	// Object is the object.
	Object json.RawMessage `json:"object"`
	// Serves is a path that answers once a definition is served.
	Serves string `json:"serves"`
}

// surroundings is what all members share.
type surroundings struct {
	address     string
	certificate dynamiccertificates.CertKeyContentProvider
	// users are known by their bearer tokens.
	users  authenticator.Request
	etcd   clientv3.Config
	seeds  []seed
	counts *counts
	turns  turns
	models common.OpenAPIV3Config
}

// models describes the types of Kubernetes, which a server-side apply needs to know. They are many MiB,
// so all members share them. Who builds a server writes into the extensions of a type: these are each
// one's own, for as long as it builds.
func models() common.OpenAPIV3Config {
	models := *genericapiserver.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitions,
		openapinamer.NewDefinitionNamer(apiserver.Scheme, legacyscheme.Scheme))
	models.Info.Version = "unversioned"
	shared := models.Definitions
	models.Definitions = nil
	models.GetDefinitions = func(common.ReferenceCallback) map[string]common.OpenAPIDefinition {
		own := maps.Clone(shared)
		for name, model := range own {
			model.Schema.Extensions = maps.Clone(model.Schema.Extensions)
			own[name] = model
		}
		return own
	}
	return models
}

// start starts one member and returns its address once it has all that it should.
func (s *surroundings) start(number int) (string, error) {
	listener, err := net.Listen("tcp", s.address+":0")
	if err != nil {
		return "", err
	}
	server, err := s.server(number, listener)
	if err != nil {
		return "", fmt.Errorf("member %d: %w", number, err)
	}
	go func() {
		// It ends with the process.
		_ = server.PrepareRun().RunWithContext(context.Background())
	}()
	if err := s.plant(server.LoopbackClientConfig); err != nil {
		return "", fmt.Errorf("member %d: %w", number, err)
	}
	return "https://" + listener.Addr().String(), nil
}

func (s *surroundings) server(number int, listener net.Listener) (*genericapiserver.GenericAPIServer, error) {
	etcd, err := kubernetes.New(s.etcd)
	if err != nil {
		return nil, err
	}
	keep := func(codec runtime.Codec) keeper {
		return keeper{etcd: etcd, prefix: fmt.Sprintf("/member-%d", number), codec: codec}
	}
	generic := genericapiserver.NewRecommendedConfig(apiserver.Codecs)
	defaults := options.NewCustomResourceDefinitionsServerOptions(io.Discard, io.Discard)
	if err := defaults.ServerRunOptions.Complete(); err != nil {
		return nil, err
	}
	if err := defaults.ServerRunOptions.ApplyTo(&generic.Config); err != nil {
		return nil, err
	}
	if err := defaults.APIEnablement.ApplyTo(&generic.Config, apiserver.DefaultAPIResourceConfigSource(), apiserver.Scheme); err != nil {
		return nil, err
	}
	generic.SecureServing = &genericapiserver.SecureServingInfo{
		Listener:                     listener,
		Cert:                         s.certificate,
		HTTP2MaxStreamsPerConnection: streams,
	}
	authority, _ := s.certificate.CurrentCertKeyContent()
	generic.LoopbackClientConfig, err = generic.SecureServing.NewClientConfig(authority)
	if err != nil {
		return nil, err
	}
	generic.LoopbackClientConfig.BearerToken = uuid.NewString()
	generic.Authentication.Authenticator = s.users
	generic.Authorization.Authorizer = authorizerfactory.NewAlwaysAllowAuthorizer()
	generic.RESTOptionsGetter = keep(apiserver.Codecs.LegacyCodec(crds.SchemeGroupVersion))
	models := s.models
	generic.OpenAPIV3Config = &models
	generic.SkipOpenAPIInstallation = true
	generic.BuildHandlerChainFunc = func(handler http.Handler, config *genericapiserver.Config) http.Handler {
		return genericapiserver.DefaultBuildHandlerChain(s.counts.of(number, s.turns.of(handler)), config)
	}

	config := apiserver.Config{
		GenericConfig: generic,
		ExtraConfig: apiserver.ExtraConfig{
			CRDRESTOptionsGetter: keep(runtime.NewCodec(unstructured.UnstructuredJSONScheme, unstructured.UnstructuredJSONScheme)),
			MasterCount:          1,
			ServiceResolver:      webhook.NewDefaultServiceResolver(),
			AuthResolverWrapper: webhook.NewDefaultAuthenticationInfoResolverWrapper(
				nil, nil, generic.LoopbackClientConfig, noop.NewTracerProvider()),
		},
	}
	server, err := config.Complete().New(genericapiserver.NewEmptyDelegate())
	if err != nil {
		return nil, err
	}
	codec := legacyscheme.Codecs.LegacyCodec(legacyscheme.Scheme.PrioritizedVersionsAllGroups()...)
	return server.GenericAPIServer, installCore(server.GenericAPIServer, keep(codec))
}

// plant creates what a member has from the start.
func (s *surroundings) plant(config *rest.Config) error {
	client, err := rest.UnversionedRESTClientFor(rest.AddUserAgent(withCodec(config), "fleet"))
	if err != nil {
		return err
	}
	background := context.Background()
	if err := wait(client, "/readyz"); err != nil {
		return err
	}
	for _, seed := range s.seeds {
		created := client.Post().AbsPath(seed.Path).Body([]byte(seed.Object)).
			SetHeader("Content-Type", "application/json").Do(background)
		if err := created.Error(); err != nil {
			return fmt.Errorf("%s: %w", seed.Path, err)
		}
	}
	for _, seed := range s.seeds {
		if seed.Serves != "" {
			if err := wait(client, seed.Serves); err != nil {
				return err
			}
		}
	}
	return nil
}

func withCodec(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.NegotiatedSerializer = legacyscheme.Codecs
	config.QPS = -1
	return config
}

// wait asks until there is a good answer.
func wait(client *rest.RESTClient, path string) error {
	began := time.Now()
	for {
		err := client.Get().AbsPath(path).Do(context.Background()).Error()
		if err == nil {
			return nil
		}
		if time.Since(began) > servedWithin {
			return fmt.Errorf("%s is not served: %w", path, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
