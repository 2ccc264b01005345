"""What is skipped, and so deleted: only what is known not to be about a training job."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.training_job.event import OtherEvent, parse_event

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn-1"


def is_other(document: object) -> bool:
    return isinstance(parse_event(json.dumps(document)), OtherEvent)


@pytest.mark.parametrize(
    "document",
    [
        {"detail-type": "AWS API Call via CloudTrail", "source": "aws.sagemaker",
         "detail": {"eventName": "CreateTrainingJob",
                    "requestParameters": {"trainingJobName": "churn-1"},
                    "responseElements": {"trainingJobArn": ARN}}},
        {"detail-type": "SageMaker Model Building Pipeline Execution Step Status Change",
         "source": "aws.sagemaker", "detail": {"metadata": {"trainingJob": {"arn": ARN}}}},
        {"detail-type": "SageMaker Training Job State Change", "source": "com.acme",
         "detail": {"TrainingJobName": "churn-1"}},
        {"detail-type": "Step Functions Execution Status Change", "source": "aws.states",
         "detail": {"input": json.dumps({"TrainingJobArn": ARN})}},
        {"ProcessingJobName": "debugger-1", "TrainingJobArn": ARN},
        {"ProcessingJobName": "debugger-1", "ProcessingJobStatus": "Completed"},
        {"HyperParameterTuningJobName": "tune-1", "BestTrainingJob": {"TrainingJobName": "t-1",
                                                                     "TrainingJobArn": ARN}},
        {"TransformJobName": "t", "TransformJobStatus": "Completed"},
        {"AutoMLJobName": "a"},
        {"LabelingJobName": "a"},
        {"CompilationJobName": "a"},
        {"EndpointName": "e", "EndpointStatus": "IN_SERVICE"},
        {"EndpointArn": "arn:aws:sagemaker:eu-west-1:123456789012:endpoint/e"},
        {"ModelPackageArn": "arn:aws:sagemaker:eu-west-1:123456789012:model-package/churn/1",
         "ModelApprovalStatus": "Approved"},
        {"FeatureGroupName": "f", "FeatureGroupStatus": "Created"},
        {"NotebookInstanceName": "n", "NotebookInstanceStatus": "InService"},
        {"pipelineArn": "p", "pipelineExecutionArn": "e", "currentPipelineExecutionStatus": "x"},
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"},
        {"Records": [{"eventSource": "aws:s3", "s3": {"object": {"key": "training-job/a"}}}]},
        {"Records": [{"eventSource": "aws:s3"}, {"eventSource": "aws:ses"}]},
        {"Type": "SubscriptionConfirmation", "TopicArn": "t", "Message": "visit", "Token": "1"},
        {"Type": "UnsubscribeConfirmation", "TopicArn": "t", "Message": "visit"},
    ],
)  # fmt: skip
def test_known_others_are_skipped(document: dict[str, Any]) -> None:
    assert is_other(document)


@pytest.mark.parametrize(
    "document",
    [
        {"trainingJobName": "churn-1", "trainingJobArn": ARN, "status": "Completed"},
        {"modelTrainingJobName": "churn-1"},
        {"jobName": "churn-1", "status": "Completed"},
        {"job_name": "churn-1", "job_arn": ARN},
        {"batchJobName": "b"},
        {"processingJobName": "p"},
        {"JobName": "x", "JobArn": "y"},
        {"ProcessingJobName": "p", "trainingJobName": "churn-1"},
        {"ProcessingJobName": "p", "training_job_arn": ARN},
        {"ProcessingJobName": "p", "TrainingJobArn": ARN, "TrainingJobStatus": "Completed"},
        {"ProcessingJobName": "p", "TrainingJobName": "churn-1"},
        {"ProcessingJobName": None, "TrainingJobArn": ARN},
        {"TransformJobName": {"a": 1}},
        {"EndpointName": "e", "EndpointStatus": "IN_SERVICE", "trainedBy": ARN},
        {"ModelPackageArn": "arn:aws:sagemaker:eu-west-1:123456789012:model-package/c/1",
         "source": {"trainingJobName": "churn-1"}},
        {"ModelPackageArn": "arn:aws:sagemaker:eu-west-1:123456789012:model-package/c/1",
         "jobName": "churn-1"},
        {"EndpointName": "e"},
        {"Event": "s3:TestEvent", "job": ARN},
        {"Records": [{"eventSource": "aws:s3"}, {"eventSource": "aws:s3", "about": [ARN]}]},
        {"Records": [{"eventSource": "aws:s3"}, {"eventSource": "acme"}]},
        {"Records": [{"eventSource": "aws:s3"}, 7]},
        {"Records": [{"eventSource": "sagemaker.amazonaws.com",
                      "requestParameters": {"trainingJobName": "churn-1"}}]},
        {"Type": "Alarm", "TopicArn": "t", "Message": "x"},
        {"detailType": "AWS API Call via CloudTrail", "detail": {"trainingJobName": "churn-1"}},
        {"detail-type": ["SageMaker Endpoint State Change"], "source": "aws.sagemaker"},
        {"detail-type": "SageMaker Endpoint State Change"},
        {"xJobName": "y"},
        {},
    ],
)  # fmt: skip
def test_all_else_is_understood_or_rejected(document: dict[str, Any]) -> None:
    assert not is_other(document)
