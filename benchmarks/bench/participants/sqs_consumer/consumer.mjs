// sqs-consumer with the AWS SDK v3: receive, DescribeTrainingJob, create the run with fetch, delete.
// Runs until SIGTERM, then lets what it has received finish.
import { DescribeTrainingJobCommand, SageMakerClient } from "@aws-sdk/client-sagemaker";
import { SQSClient } from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";

const env = process.env;
const sagemaker = new SageMakerClient({ endpoint: env.SAGEMAKER_ENDPOINT });
const sqs = new SQSClient({ endpoint: env.SQS_ENDPOINT });

// As many requests to ModelDB at once as the other participants have.
let free = Number(env.CONCURRENCY);
const waiting = [];
async function withTarget(work) {
  if (free > 0) free -= 1;
  else await new Promise((go) => waiting.push(go));
  try {
    return await work();
  } finally {
    if (waiting.length) waiting.shift()();
    else free += 1;
  }
}

function attribute(key, value) {
  return { key, value };
}

function runOf(event, job, tags) {
  const channels = job.InputDataConfig ?? [];
  return {
    project_id: env.PROJECT_ID,
    experiment_id: env.EXPERIMENT_ID,
    name: job.TrainingJobName,
    start_time: String(job.TrainingStartTime.getTime()),
    end_time: String(job.TrainingEndTime.getTime()),
    date_created: String(job.TrainingEndTime.getTime()),
    tags: ["sagemaker", tags.MODEL_DB_MODEL_TYPE],
    hyperparameters: Object.entries(job.HyperParameters ?? {}).map(([key, value]) => attribute(key, value)),
    metrics: (job.FinalMetricDataList ?? []).map((metric) => attribute(metric.MetricName.replace(":", "/"), metric.Value)),
    datasets: channels.map((channel) => ({
      key: channel.ChannelName,
      path: channel.DataSource.S3DataSource.S3Uri,
      path_only: true,
      artifact_type: "DATA",
    })),
    artifacts: [
      { key: "model_artifact", path: job.ModelArtifacts.S3ModelArtifacts, path_only: true, artifact_type: "MODEL" },
    ],
    attributes: [
      attribute("sagemaker_training_job_arn", job.TrainingJobArn),
      attribute("sagemaker_creation_time", job.CreationTime.toISOString()),
      attribute("model_name", tags.MODEL_DB_MODEL_NAME),
      attribute("model_type", tags.MODEL_DB_MODEL_TYPE),
      attribute("project_user", tags.MODEL_DB_PROJECT_USER),
    ],
  };
}

async function handleMessage(message) {
  const { detail } = JSON.parse(message.Body);
  const job = await sagemaker.send(new DescribeTrainingJobCommand({ TrainingJobName: detail.TrainingJobName }));
  const run = runOf(detail, job, detail.Tags);
  const status = await withTarget(async () => {
    const answer = await fetch(`${env.MODELDB_URL}/experiment-run/createExperimentRun`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(run),
    });
    const text = await answer.text();
    if (!answer.ok && answer.status !== 409) throw new Error(`${answer.status} ${text}`); // 409: it is there
    return answer.status;
  });
  console.log(JSON.stringify({ job: job.TrainingJobName, status }));
  return message;
}

// As many as the daemon has pollers.
const consumers = Array.from({ length: Number(env.POLLERS) }, () => {
  const consumer = Consumer.create({
    queueUrl: env.QUEUE_URL,
    sqs,
    batchSize: 10,
    waitTimeSeconds: Number(env.WAIT_SECONDS),
    pollingCompleteWaitTimeMs: 30_000,
    handleMessage,
  });
  consumer.on("error", (error) => console.error(error.message));
  consumer.on("processing_error", (error) => console.error(error.message));
  consumer.start();
  return consumer;
});

process.on("SIGTERM", async () => {
  const stopped = consumers.map((consumer) => new Promise((done) => consumer.on("stopped", done)));
  for (const consumer of consumers) consumer.stop();
  await Promise.all(stopped);
  process.exit(0);
});
