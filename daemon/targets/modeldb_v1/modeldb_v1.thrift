// The part of ModelDB V1's interface (server v1.0.0) that this program and its stand-in use. A field or method that is left out here is
// skipped when a server sends it. Field ids and defaults are the server's.

struct Project {
  1: i32 id = -1,
  2: string name,
  3: string author,
  4: string description
}

struct Experiment {
  1: i32 id = -1,
  2: i32 projectId,
  3: string name,
  4: string description,
  5: bool isDefault = 0
}

struct ExperimentRun {
  1: i32 id = -1,
  2: i32 experimentId,
  3: string description,
  4: optional string sha,
  5: optional string created
}

struct DataFrameColumn {
  1: string name,
  2: string type
}

struct MetadataKV {
  1: string key,
  2: string value,
  3: string valueType
}

struct DataFrame {
  1: i32 id = -1,
  2: list<DataFrameColumn> schema,
  3: i32 numRows,
  4: string tag = "",
  5: optional string filepath,
  6: optional list<MetadataKV> metadata
}

struct HyperParameter {
  1: string name,
  2: string value,
  3: string type,
  4: double min,
  5: double max
}

struct TransformerSpec {
  1: i32 id = -1,
  2: string transformerType,
  3: list<HyperParameter> hyperparameters,
  4: string tag = ""
}

struct Transformer {
  1: i32 id = -1,
  2: string transformerType,
  3: string tag = "",
  4: optional string filepath
}

enum ProblemType {
  UNDEFINED,
  BINARY_CLASSIFICATION,
  MULTICLASS_CLASSIFICATION,
  REGRESSION,
  CLUSTERING,
  RECOMMENDATION
}

struct ProjectEvent {
  1: Project project
}

struct ProjectEventResponse {
  1: i32 projectId
}

struct ExperimentEvent {
  1: Experiment experiment
}

struct ExperimentEventResponse {
  1: i32 experimentId
}

struct ExperimentRunEvent {
  1: ExperimentRun experimentRun
}

struct ExperimentRunEventResponse {
  1: i32 experimentRunId
}

struct FitEvent {
  1: DataFrame df,
  2: TransformerSpec spec,
  3: Transformer model,
  4: list<string> featureColumns,
  5: list<string> predictionColumns,
  6: list<string> labelColumns,
  7: i32 experimentRunId,
  8: optional ProblemType problemType = ProblemType.UNDEFINED,
  9: optional string metadata
}

struct FitEventResponse {
  1: i32 dfId,
  2: i32 specId,
  3: i32 modelId,
  4: i32 eventId,
  5: i32 fitEventId
}

struct MetricEvent {
  1: DataFrame df,
  2: Transformer model,
  3: string metricType,
  4: double metricValue,
  5: string labelCol,
  6: string predictionCol,
  7: i32 experimentRunId
}

struct MetricEventResponse {
  1: i32 modelId,
  2: i32 dfId,
  3: i32 eventId,
  4: i32 metricEventId
}

struct AnnotationFragment {
  1: string type,
  2: DataFrame df,
  3: TransformerSpec spec,
  4: Transformer transformer,
  5: string message
}

struct AnnotationFragmentResponse {
  1: string type,
  2: i32 id
}

struct AnnotationEvent {
  1: list<AnnotationFragment> fragments,
  2: i32 experimentRunId
}

struct AnnotationEventResponse {
  1: i32 annotationId,
  2: list<AnnotationFragmentResponse> fragmentResponses
}

struct ProjectExperimentsAndRuns {
  1: i32 projId,
  2: list<Experiment> experiments,
  3: list<ExperimentRun> experimentRuns
}

struct ProjectOverviewResponse {
  1: Project project,
  2: i32 numExperiments,
  3: i32 numExperimentRuns
}

struct ModelResponse {
  1: i32 id,
  2: i32 experimentRunId,
  3: i32 experimentId,
  4: i32 projectId,
  5: DataFrame trainingDataFrame,
  6: TransformerSpec specification,
  7: ProblemType problemType,
  8: list<string> featureColumns,
  9: list<string> labelColumns,
  10: list<string> predictionColumns,
  11: map<string, map<i32, double>> metrics,
  12: list<string> annotations,
  13: string sha,
  14: string filepath,
  15: string timestamp,
  17: optional string metadata
}

struct ExperimentRunDetailsResponse {
  1: Project project,
  2: Experiment experiment,
  3: ExperimentRun experimentRun,
  4: list<ModelResponse> modelResponses
}

struct TransformEvent {
  1: DataFrame oldDataFrame,
  2: DataFrame newDataFrame,
  3: Transformer transformer,
  4: list<string> inputColumns,
  5: list<string> outputColumns,
  6: i32 experimentRunId
}

struct ModelAncestryResponse {
  1: i32 modelId,
  2: FitEvent fitEvent,
  3: list<TransformEvent> transformEvents
}

struct StringPair {
  1: string first,
  2: string second
}

struct CompareHyperParametersResponse {
  1: map<string, string> model1OnlyHyperparams,
  2: map<string, string> model2OnlyHyperparams,
  3: map<string, StringPair> sharedHyperparams
}

exception ResourceNotFoundException {
  1: string message
}

exception InvalidFieldException {
  1: string message
}

exception ServerLogicException {
  1: string message
}

exception InvalidExperimentRunException {
  1: string message
}

service ModelDBService {
  i32 testConnection(),

  ProjectEventResponse storeProjectEvent(1: ProjectEvent pr) throws (1: ServerLogicException svEx),
  ExperimentEventResponse storeExperimentEvent(1: ExperimentEvent er) throws (1: ServerLogicException svEx),
  ExperimentRunEventResponse storeExperimentRunEvent(1: ExperimentRunEvent er) throws (1: ServerLogicException svEx),
  i32 storeDataFrame(1: DataFrame df, 2: i32 experimentRunId)
    throws (1: InvalidExperimentRunException ierEx, 2: ServerLogicException svEx),
  FitEventResponse storeFitEvent(1: FitEvent fe) throws (1: InvalidExperimentRunException ierEx, 2: ServerLogicException svEx),
  MetricEventResponse storeMetricEvent(1: MetricEvent me) throws (1: InvalidExperimentRunException ierEx, 2: ServerLogicException svEx),
  AnnotationEventResponse storeAnnotationEvent(1: AnnotationEvent ae) throws (1: ServerLogicException svEx),

  string pathForTransformer(1: i32 transformerId)
    throws (1: ResourceNotFoundException rnfEx, 2: InvalidFieldException efEx, 3: ServerLogicException svEx),
  list<i32> getProjectIds(1: map<string, string> keyValuePairs) throws (1: ServerLogicException svEx),
  bool updateProject(1: i32 projectId, 2: string key, 3: string value) throws (1: ServerLogicException svEx),
  list<ProjectOverviewResponse> getProjectOverviews() throws (1: ServerLogicException svEx),
  ProjectExperimentsAndRuns getRunsAndExperimentsInProject(1: i32 projId) throws (1: ServerLogicException svEx),
  list<ExperimentRun> getRunsInExperiment(1: i32 experimentId) throws (1: ServerLogicException svEx),
  // the only method whose exceptions are numbered the other way round
  ExperimentRunDetailsResponse getExperimentRunDetails(1: i32 experimentRunId)
    throws (1: ServerLogicException svEx, 2: ResourceNotFoundException rnfEx),
  ModelResponse getModel(1: i32 modelId) throws (1: ResourceNotFoundException rnfEx, 2: ServerLogicException svEx),
  ModelAncestryResponse computeModelAncestry(1: i32 modelId)
    throws (1: ResourceNotFoundException rnfEx, 2: ServerLogicException svEx),
  CompareHyperParametersResponse compareHyperparameters(1: i32 modelId1, 2: i32 modelId2)
    throws (1: ResourceNotFoundException rnfEx, 2: ServerLogicException svEx),

  list<i32> getModelIds(1: map<string, string> keyValuePairs) throws (1: ServerLogicException svEx),
  bool createOrUpdateScalarField(1: i32 modelId, 2: string key, 3: string value, 4: string valueType)
    throws (1: ServerLogicException svEx),
  bool createVectorField(1: i32 modelId, 2: string vectorName, 3: map<string, string> vectorConfig)
    throws (1: ServerLogicException svEx),
  bool updateVectorField(1: i32 modelId, 2: string key, 3: i32 valueIndex, 4: string value, 5: string valueType)
    throws (1: ServerLogicException svEx),
  bool appendToVectorField(1: i32 modelId, 2: string vectorName, 3: string value, 4: string valueType)
    throws (1: ServerLogicException svEx)
}
